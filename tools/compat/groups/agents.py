"""The other end of agent.py's pipes: agents as objects that can be called, waited for, killed and stopped."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time

from agent import Refused

DEADLINE_SECONDS = 60


class Gone(Exception):
    """The agent's process has ended where an answer was expected."""


class Agent:
    def __init__(self, command):
        self.stderr = tempfile.TemporaryFile("w+", errors="replace")
        # A session of its own: killing and stopping reaches what the agent itself has started.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, text=True,
                                        bufsize=1, start_new_session=True)
        self.changed = threading.Condition()
        self.calls, self.answers, self.ended = 0, {}, False
        # Rebalances that changed something; those of the cooperative protocol may have an empty round in the end.
        self.owned, self.rebalances, self.revoked, self.records, self.errors = set(), 0, set(), [], []
        # When which partition was owned: [partition, from, to or None].
        self.spans = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                message = json.loads(line)
                if "event" in message:
                    self._event(message)
                else:
                    self.answers[message["id"]] = message
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _event(self, message):
        kind = message["event"]
        if kind == "record":
            self.records.append((message["partition"], message["offset"]))
        elif kind == "error":
            self.errors.append((message["code"], message["message"]))
        elif kind == "assigned":
            self.rebalances += bool(message["partitions"])
            self.spans += [[partition, message["at"], None] for partition in message["partitions"] if partition not in self.owned]
            self.owned |= set(message["partitions"])
        else:
            self.rebalances += bool(message["partitions"])
            self.revoked |= set(message["partitions"])
            self.owned -= set(message["partitions"])
            self._end_spans(message["at"], set(message["partitions"]))

    def _end_spans(self, at, partitions=None):
        for span in self.spans:
            if span[2] is None and (partitions is None or span[0] in partitions):
                span[2] = at

    # ---- commands

    def start(self, verb, **arguments):
        """Sends the command and returns its number, for `result`."""
        with self.changed:
            self.calls += 1
            number = self.calls
        try:
            self.process.stdin.write(json.dumps({"id": number, "do": verb, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Gone(f"{verb}: the agent has ended; {self.last_words()}") from None
        return number

    def result(self, number, what, seconds=2 * DEADLINE_SECONDS):
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.answers or self.ended, seconds):
                raise AssertionError(f"{what}: no answer in {seconds} s; {self.last_words()}")
            if number not in self.answers:
                raise Gone(f"{what}: the agent has ended; {self.last_words()}")
            message = self.answers.pop(number)
        if "error" in message:
            raise Refused(message["error"], message.get("message", ""))
        return message.get("ok")

    def call(self, verb, **arguments):
        return self.result(self.start(verb, **arguments), verb)

    # ---- members

    def until(self, condition, what, seconds=DEADLINE_SECONDS):
        """Waits until `condition(self)` holds."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self) or self.ended, seconds) or not condition(self):
                ended = "the agent has ended" if self.ended else f"waited {seconds} s"
                raise AssertionError(f"{ended} until {what}: owns {sorted(self.owned)}, errors {self.errors[-3:]}; {self.last_words()}")

    def close(self):
        at = time.time()
        self.call("close")
        self._stop_owning(at)

    def kill(self):
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._stop_owning(time.time())

    def stop(self):
        """SIGSTOP. What happens to it meanwhile it learns only later, so nothing that it owns counts any more."""
        self._signal(signal.SIGSTOP)
        self._stop_owning(time.time())

    def resume(self):
        self._signal(signal.SIGCONT)

    def _stop_owning(self, at):
        with self.changed:
            self._end_spans(at)

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def last_words(self):
        self.stderr.flush()
        self.stderr.seek(0)
        words = self.stderr.read()[-1500:].strip()
        return f"its last words: {words}" if words else "it said nothing"


def wait_until(condition, what, seconds=DEADLINE_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s until {what() if callable(what) else what}"
        time.sleep(0.02)


def owned_twice(members):
    """The first partition that two members have owned at one time, and when; None when there is none."""
    spans = sorted((partition, start, end, number) for number, member in enumerate(members) for partition, start, end in member.spans)
    for one, other in zip(spans, spans[1:]):
        if one[0] == other[0] and one[3] != other[3] and (one[2] is None or other[1] < one[2]):
            return f"{one[0]}: member {one[3]} had it until {one[2]}, member {other[3]} from {other[1]}"
    return None
