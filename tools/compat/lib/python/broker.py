"""A broker process of our own: started, killed and restarted on one port and data directory.

BROKER_BIN      the binary (lib/broker.sh builds it)
BROKER_COMMAND  another way to start one, with {port}, {admin} and {data} in it, for a peer to compare with
BROKER_ARGS     more arguments for the binary
BROKER_TMP      where data goes (a real disk)
BROKER_KEEP     when set, data and log of a broker stay there at the end, and the name is printed
"""

import atexit
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import ports
import ready

OUR_VARIABLES = {"BROKER_BIN", "BROKER_COMMAND", "BROKER_ARGS", "BROKER_TMP", "BROKER_KEEP", "BROKER_READY_SECONDS"}
START_SECONDS = 120
STOP_SECONDS = 60


def quiet(client, config):
    """A confluent-kafka client that does not print a line for every connection that a killed broker refuses; unless its `debug` asks for more than that."""
    if "debug" in config:
        return client(config)
    logger = logging.getLogger("quiet")
    logger.setLevel(logging.CRITICAL + 1)
    return client(config, logger=logger)


def last_lines(path, count):
    with open(path, errors="replace") as log:
        return "".join(log.readlines()[-count:])


def environment():
    """For a broker, which takes variables named BROKER_* for settings: without the ones above."""
    return {name: value for name, value in os.environ.items() if name not in OUR_VARIABLES}


class Broker:
    def __init__(self, *arguments, address="127.0.0.1"):
        self.folder = tempfile.mkdtemp(prefix="scenario.", dir=os.environ.get("BROKER_TMP"))
        self.port, self.admin, self.process, self.environment = ports.free(), ports.free(), None, environment()
        self.bootstrap = f"{address}:{self.port}"
        names = {"port": self.port, "admin": self.admin, "data": os.path.join(self.folder, "data")}
        command = os.environ.get("BROKER_COMMAND")
        if command:
            self.command = [word.format(**names) for word in shlex.split(command)]
        else:
            self.command = [os.environ["BROKER_BIN"], "--listen", self.bootstrap, "--admin", f"{address}:{self.admin}", "--data-dir", names["data"],
                            *shlex.split(os.environ.get("BROKER_ARGS", "")), *arguments]
        self.log_path = os.path.join(self.folder, "log")
        atexit.register(self._clean_up)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))

    def start(self):
        """Seconds from exec to the first answer."""
        started = time.monotonic()
        self.start_unanswered()
        while not ready.answers(self.bootstrap):
            if self.process.poll() is not None:
                raise RuntimeError(f"the broker ended with {self.process.returncode} while it started:\n{self.last_words()}")
            if time.monotonic() - started > START_SECONDS:
                raise RuntimeError(f"the broker did not answer within {START_SECONDS} s:\n{self.last_words()}")
            time.sleep(0.005)
        return time.monotonic() - started

    def start_unanswered(self):
        """Starts one that serves no clients, or does not yet."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Seconds that a graceful stop took."""
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(STOP_SECONDS)
        return time.monotonic() - started

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def metric(self, name, timeout=10):
        """The sum of a metric over all labels."""
        host = self.bootstrap.rsplit(":", 1)[0]
        with urllib.request.urlopen(f"http://{host}:{self.admin}/metrics", timeout=timeout) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + "{", name + " ")))

    def last_words(self, lines=30):
        return last_lines(self.log_path, lines)

    def panicked(self):
        with open(self.log_path, errors="replace") as log:
            return any("panicked at" in line for line in log)

    def end(self):
        """Stops the process if it runs, whatever that takes."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _clean_up(self):
        self.end()
        if os.environ.get("BROKER_KEEP"):
            print(f"kept: {self.folder}", flush=True)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Report:
    """Checks of a scenario, printed as they are made, and the closing line."""

    def __init__(self, name):
        self.name, self.passed, self.failed = name, 0, 0

    def check(self, holds, what):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        print(f"{'ok' if holds else 'FAILED'} {self.name}: {what}", flush=True)
        return holds

    def say(self, text):
        print(f"   {self.name}: {text}", flush=True)

    def close(self, broker=None):
        if broker is not None:
            self.check(not broker.panicked(), "no panic in the broker's log")
            if self.failed:
                print(broker.last_words())
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.failed == 0 else 1
