"""Starts the application and looks at it by HTTP. usage: check.py JAR (broker: BOOTSTRAP)"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

from ports import free

DEADLINE_SECONDS = 60
PARTITIONS = 3


class Application:
    def __init__(self, jar, name):
        self.port = free()
        self.log = open(f"{jar}.log", "wb+")
        options = ["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        arguments = [f"--server.port={self.port}", f"--app.topic={name}", f"--app.group={name}-group"]
        self.process = subprocess.Popen(["java", *options, "-jar", jar, *arguments], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=40) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def get(self, path):
        return self.ask("GET", path)

    def words(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def started(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the application has ended:\n{self.words()[-3000:]}")
        try:
            return self.get("/attempts") == 0
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


class Suite:
    def __init__(self, jar):
        self.name = f"spring-{os.getpid()}-{int(time.time()) % 100000}"
        self.application = Application(jar, self.name)
        self.sent = []
        self.passed = self.failed = 0

    def run(self):
        try:
            self.check("starts, and makes its topics", self.start)
            if not self.failed:
                self.check("two listeners share the partitions", self.assignment)
                self.check("letters that are posted are received, where the answers said", self.letters)
                self.check("a letter that fails is tried three times and goes to the dead ones; the others pass", self.dead)
                self.check("listeners that stop and start again get what came meanwhile, and nothing twice", self.restart)
                self.check("what was received is committed", self.committed)
            self.check("ends when it is told to", self.end)
        finally:
            self.application.process.kill()
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return self.failed == 0

    def check(self, name, test):
        started = time.monotonic()
        try:
            test()
        except Exception as error:
            self.failed += 1
            print(f"FAILED spring: {name}: {type(error).__name__}: {error}\n{self.application.words()[-3000:]}", flush=True)
        else:
            self.passed += 1
            print(f"ok spring: {name} ({time.monotonic() - started:.2f} s)", flush=True)

    def eventually(self, what, condition):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s: {what}"
            time.sleep(0.05)

    def post(self, to, text):
        place = self.application.ask("POST", "/letters", {"to": to, "text": text})
        self.sent.append({"key": to, "letter": {"to": to, "text": text}, **place, "exception": None})

    def received_all(self):
        """Everything that was sent is there once, where it was said to be, and each partition's in order."""
        self.eventually("all letters are received", lambda: len(self.application.get("/letters")) >= len(self.sent))
        got = self.application.get("/letters")
        for partition in range(PARTITIONS):
            theirs, ours = ([one for one in letters if one["partition"] == partition] for letters in (got, self.sent))
            assert theirs == ours, f"partition {partition}: expected {ours}, got {theirs}"

    def start(self):
        self.eventually("the application answers", self.application.started)
        topics = self.application.get("/topic")
        assert topics == {self.name: PARTITIONS, f"{self.name}-dlt": PARTITIONS}, topics

    def assignment(self):
        self.eventually("all partitions are assigned", lambda: self.application.get("/listener") == list(range(PARTITIONS)))

    def letters(self):
        for i in range(60):
            self.post(f"person {i % 10}", f"letter {i}: \u0161\u010d \u72d0")
        assert {one["partition"] for one in self.sent} == set(range(PARTITIONS)), "ten people should be spread over all partitions"
        self.received_all()

    def dead(self):
        refused = self.application.ask("POST", "/letters", {"to": "nobody", "text": "return to sender"})
        self.post("person 1", "after it")
        self.eventually("the letter is dead", lambda: len(self.application.get("/dead")) == 1)
        dead = self.application.get("/dead")[0]
        assert dead["letter"] == {"to": "nobody", "text": "return to sender"} and dead["key"] == "nobody", dead
        assert dead["partition"] == refused["partition"] and dead["offset"] == 0, dead
        assert "nobody lives here" in dead["exception"], dead
        assert self.application.get("/attempts") == 3, self.application.get("/attempts")
        self.received_all()

    def restart(self):
        self.application.ask("PUT", "/listener/stop")
        self.eventually("the listeners stand still", lambda: self.application.get("/listener") == [])
        for i in range(20):
            self.post(f"person {i % 10}", f"while you were away {i}")
        self.application.ask("PUT", "/listener/start")
        self.assignment()
        self.post("person 3", "the last one")
        self.received_all()

    def committed(self):
        ends = {}
        for one in self.sent:
            ends[one["partition"]] = max(ends.get(one["partition"], 0), one["offset"] + 1)
        self.eventually("the committed offsets are behind the last letters",
                        lambda: all(self.application.get("/committed").get(str(p), 0) >= end for p, end in ends.items()))

    def end(self):
        self.application.process.send_signal(signal.SIGTERM)
        status = self.application.process.wait(DEADLINE_SECONDS)
        assert status in (0, 143, -signal.SIGTERM), f"exit status {status}"


if __name__ == "__main__":
    sys.exit(0 if Suite(sys.argv[1]).run() else 1)
