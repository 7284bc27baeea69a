"""100 consumers in one group over 200 partitions: all join, half of them are killed, as many join again, half of them leave. After
each step every partition must have one owner, each owner as many as the others, and whatever is written then must be read once,
by the partition's owner. At no time may two live members own one partition. Reports the times to settle.

usage: group_settle.py [--members 100] [--partitions 200] [--kinds eager,cooperative,consumer]
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Report

HERE = os.path.dirname(os.path.abspath(__file__))
SESSION_SECONDS = 6
DEADLINE_SECONDS = 120


class Half:
    """A process with half of the members."""

    def __init__(self, ledger, number, arguments, bootstrap):
        self.ledger, self.number, self.alive = ledger, number, True
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "members.py"), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, "BOOTSTRAP": bootstrap})
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.ledger.enter(self, json.loads(line))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.ledger.gone(self, time.time())

    def leave(self):
        at = time.time()
        self.process.stdin.write("leave\n")
        self.process.stdin.close()
        self.process.wait(DEADLINE_SECONDS)
        self.reader.join()
        self.ledger.gone(self, at)


class Ledger:
    """Who owns and reads what: members are (half's number, number within)."""

    def __init__(self, halves_of):
        self.changed, self.halves_of = threading.Condition(), halves_of
        self.owned, self.spans, self.reads, self.errors, self.settled_at = {}, [], {}, [], 0.0

    def enter(self, half, message):
        member = (half.number, message.get("member"))
        with self.changed:
            kind = message["event"]
            if kind == "record":
                self.reads.setdefault((message["partition"], message["value"]), []).append(member)
            elif kind == "error":
                self.errors.append((member, message["message"]))
            elif kind == "assigned":
                mine = self.owned.setdefault(member, {})
                for partition in message["partitions"]:
                    mine.setdefault(partition, message["at"])
            elif kind in ("revoked", "lost"):
                self._end(member, message["partitions"], message["at"])
            self.changed.notify_all()

    def _end(self, member, partitions, at):
        mine = self.owned.get(member, {})
        for partition in partitions:
            if partition in mine:
                self.spans.append((partition, mine.pop(partition), at, member))

    def gone(self, half, at):
        with self.changed:
            for member in [member for member in self.owned if member[0] == half.number]:
                self._end(member, list(self.owned[member]), at)
                del self.owned[member]
            self.changed.notify_all()

    def settled(self, members, partitions):
        """Every partition has one owner and every member its share."""
        sizes = [len(mine) for mine in self.owned.values()]
        everything = sorted(partition for mine in self.owned.values() for partition in mine)
        return everything == list(range(partitions)) and len(sizes) == members and set(sizes) == {partitions // members}

    def wait(self, members, partitions):
        """The time of the last assignment that it took, or None when the deadline has passed."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.settled(members, partitions), DEADLINE_SECONDS):
                return None
            return max(at for mine in self.owned.values() for at in mine.values())

    def describe(self):
        sizes = {}
        for mine in self.owned.values():
            sizes[len(mine)] = sizes.get(len(mine), 0) + 1
        return f"members by number of partitions {dict(sorted(sizes.items()))}, last errors {self.errors[-3:]}"

    def owned_twice(self):
        spans = sorted(self.spans + [(partition, at, float("inf"), member) for member, mine in self.owned.items() for partition, at in mine.items()])
        return [(one, other) for one, other in zip(spans, spans[1:]) if one[0] == other[0] and one[3] != other[3] and other[1] < one[2]]


class Run:
    """One kind of group."""

    def __init__(self, report, broker, kind, members, partitions):
        self.report, self.broker, self.kind, self.members, self.partitions = report, broker, kind, members, partitions
        self.topic = self.group = f"settle-{kind}"
        self.ledger, self.halves, self.times = Ledger(members // 2), [], {}
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic(self.topic, partitions, 1)])[self.topic].result(DEADLINE_SECONDS)
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})

    def start(self):
        arguments = [self.group, self.topic, str(self.members // 2), self.kind]
        self.halves.append(Half(self.ledger, len(self.halves), arguments, self.broker.bootstrap))

    def step(self, name, members, action):
        started = time.time()
        action()
        settled = self.ledger.wait(members, self.partitions)
        if self.report.check(settled is not None, f"{self.kind}: {name}: {members} members own {self.partitions // members} partitions each"):
            self.times[name] = settled - started
        else:
            self.report.say(self.ledger.describe())
        # Whatever is written now is read once, by the owner.
        with self.ledger.changed:
            owner = {partition: member for member, mine in self.ledger.owned.items() for partition in mine}
        for partition in range(self.partitions):
            self.producer.produce(self.topic, name.encode(), partition=partition)
        undelivered = self.producer.flush(DEADLINE_SECONDS)
        reads = self.ledger.reads
        with self.ledger.changed:
            self.ledger.changed.wait_for(lambda: all((partition, name) in reads for partition in range(self.partitions)), DEADLINE_SECONDS)
            wrong = [(partition, reads.get((partition, name)), owner.get(partition)) for partition in range(self.partitions)
                     if reads.get((partition, name)) != [owner.get(partition)]]
        self.report.check(undelivered == 0 and not wrong, f"{self.kind}: {name}: each partition is read once, by its owner {wrong[:3] or ''}")

    def go(self):
        everybody, half = self.members, self.members // 2
        self.step("join", everybody, lambda: (self.start(), self.start()))
        self.step("kill half", half, self.halves[0].kill)
        self.step("join again", everybody, self.start)
        self.step("half leaves", half, self.halves[1].leave)
        twice = self.ledger.owned_twice()
        self.report.check(not twice, f"{self.kind}: no partition was owned by two at one time {twice[:3] or ''}")
        self.halves[2].kill()
        return self.times


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--members", type=int, default=100)
    options.add_argument("--partitions", type=int, default=200)
    options.add_argument("--kinds", default="eager,cooperative,consumer")
    options = options.parse_args()
    report, broker = Report("group-settle"), Broker()
    broker.start()
    times = {}
    for kind in options.kinds.split(","):
        times[kind] = Run(report, broker, kind, options.members, options.partitions).go()
    steps = list(dict.fromkeys(step for kind in times.values() for step in kind))
    report.say(f"{options.members} members, {options.partitions} partitions: seconds to settle (killed ones are noticed when their sessions of {SESSION_SECONDS} s expire)")
    report.say(f"{'':12}" + "".join(f"{step:>14}" for step in steps))
    for kind, row in times.items():
        report.say(f"{kind:12}" + "".join(f"{row[step]:14.2f}" if step in row else f"{'never':>14}" for step in steps))
    broker.stop()
    return report.close(broker)


if __name__ == "__main__":
    sys.exit(main())
