"""Consumer groups that read and commit all along, and what has to hold for what they have met.

A group is one process with several members (committing.py, and Committing of the Java client), which logs what happens to it, in the order in which it happens:

    assigned MEMBER PARTITION
    read MEMBER PARTITION OFFSET NAME SEQUENCE
    trying MEMBER PARTITION OFFSET         a commit is about to be sent
    committed MEMBER PARTITION OFFSET      it was acknowledged
    error MEMBER TEXT                      something that a client should not meet
"""

import os
import signal
import subprocess
import sys
import time

from broker import last_lines
from ledger import committed

MEMBERS = 2
LEAVE_SECONDS = 120


class Group:
    def __init__(self, name, command, folder, topic, tells_where):
        self.name, self.topic, self.path, self.position = name, topic, os.path.join(folder, f"{name}.group"), 0
        self.tells_where = tells_where
        self.said_path = os.path.join(folder, f"{name}.said")
        with open(self.said_path, "w") as said:
            self.process = subprocess.Popen([*command, name, topic, str(MEMBERS), self.path], stdin=subprocess.PIPE, stdout=said, stderr=said)
        self.acknowledged, self.tried, self.next, self.seen, self.problems, self.commits = {}, {}, {}, {}, [], 0

    def catch_up(self):
        """Takes note of what has been logged since the last time."""
        if not os.path.exists(self.path):
            return
        with open(self.path) as file:
            file.seek(self.position)
            text = file.read()
        text = text[:text.rfind("\n") + 1]
        self.position += len(text)
        for line in text.splitlines():
            word, member, *rest = line.split(" ")
            if word == "error":
                self.problems.append(f"{self.name}, member {member}: {' '.join(rest)}")
            elif word == "read":
                self._read(member, int(rest[0]), int(rest[1]), (rest[2].encode(), int(rest[3])))
            else:
                self._other(word, member, *map(int, rest))

    def _other(self, word, member, partition, offset=None):
        match word:
            case "assigned":
                # It has to begin where the group has committed: not before what was acknowledged until now.
                self.next[member, partition] = None, self.acknowledged.get(partition, 0)
            case "trying":
                self.tried[partition] = max(self.tried.get(partition, 0), offset)
            case "committed":
                self.commits += 1
                self.acknowledged[partition] = max(self.acknowledged.get(partition, 0), offset)
            case _:
                raise RuntimeError(f"{self.path}: {word}")

    def _read(self, member, partition, offset, record):
        expected, committed_before = self.next.get((member, partition), (None, 0))
        if expected is None and not committed_before <= offset <= self.tried.get(partition, 0):
            self.problems.append(f"{self.name}: member {member} begins partition {partition} at {offset}, but {committed_before} was "
                                 f"committed, {self.tried.get(partition, 0)} tried")
        elif expected is not None and offset != expected:
            self.problems.append(f"{self.name}: member {member} reads {partition}:{offset} after {expected - 1}")
        self.next[member, partition] = offset + 1, committed_before
        if self.seen.setdefault((partition, offset), record) != record:
            self.problems.append(f"{self.name}: {partition}:{offset} was {self.seen[partition, offset]} and is {record}")

    def check(self, bootstrap, at):
        """Compares with the log that a reader has found, and with the offsets that the cluster has."""
        self.catch_up()
        acknowledged = dict(self.acknowledged)
        have = committed(bootstrap, self.name, self.topic)
        self.catch_up()
        for partition, offset in acknowledged.items():
            if not offset <= have.get(partition, -1) <= self.tried[partition]:
                self.problems.append(f"{self.name}: partition {partition}: {offset} was committed, {self.tried[partition]} tried, "
                                     f"{have.get(partition)} is there")
        for (partition, offset), record in self.seen.items():
            if offset < len(at[partition]) and at[partition].get(offset) != record:
                self.problems.append(f"{self.name} has read {record} at {partition}:{offset}, where {at[partition].get(offset)} is now")
        if self.process.poll() is not None:
            self.problems.append(f"{self.name} has ended with {self.process.returncode}")

    def has_everything(self, bootstrap, ends):
        """Whether all records below these ends are read and committed. A commit counts that has arrived, also if its answer has not."""
        self.catch_up()
        if self.missing(ends):
            return False
        have = committed(bootstrap, self.name, self.topic)
        return all(have.get(partition, 0) == end for partition, end in enumerate(ends))

    def missing(self, ends):
        """Records that nobody of the group has read."""
        return sum((partition, offset) not in self.seen for partition, end in enumerate(ends) for offset in range(end))

    def leave(self):
        """Tells all members to leave; the exit status of the process."""
        self.process.stdin.close()
        try:
            return self.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired as failure:
            raise RuntimeError(f"{self.name} has not left within {LEAVE_SECONDS} s; its members:\n{self.last_words()}") from failure

    def last_words(self, lines=400):
        """What the process has said, and where its threads are."""
        self.process.send_signal(self.tells_where)
        time.sleep(2)
        return last_lines(self.said_path, lines)


def start(folder, topic):
    """A group of librdkafka's clients with the classic protocol, and one of Java clients with the new one."""
    here = os.path.dirname(os.path.abspath(__file__))
    return [Group("librdkafka-group", [sys.executable, os.path.join(here, "committing.py")], folder, topic, signal.SIGUSR1),
            Group("java-group", [os.path.join(here, "..", "..", "java", "run"), "committing"], folder, topic, signal.SIGQUIT)]
