"""Nodes of a cluster, each with a network namespace, a disk and a wall clock of its own."""

import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import time

from broker import Broker
from cluster import Cluster
from .network import Network, address, inside

# Sessions of groups end soon enough for a test, leaders go back to where they belong soon, and files are small, so that many come and go.
SETTINGS = ["--memory", "512M", "--set", "offsets_topic_replication_factor=3", "--set", "offsets_topic_num_partitions=6",
            "--set", "group_consumer_min_session_timeout_ms=6000", "--set", "group_consumer_session_timeout_ms=6000",
            "--set", "group_consumer_min_heartbeat_interval_ms=1000", "--set", "group_consumer_heartbeat_interval_ms=1000",
            "--set", "group_initial_rebalance_delay_ms=100", "--set", "leader_imbalance_check_interval_seconds=5",
            "--set", "journal_file_bytes=8M"]


class Disk:
    """A disk of ours that forgets what was not synced (tools/faults)."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "disk")
        os.mkdir(self.path)
        command = [os.path.join(os.environ["FAULTS_BIN"], "forgetful-disk"), self.path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self):
        answer = self.process.stdout.readline().strip()
        if not answer.startswith("done"):
            raise RuntimeError(f"the disk at {self.path}: {answer or 'has ended'}")
        return answer

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)


class Clock:
    """The wall clock of a process that is started with this library preloaded."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "clock")
        with open(self.path, "wb") as file:
            file.write(bytes(8))
        with open(self.path, "r+b") as file:
            self.mapped = mmap.mmap(file.fileno(), 8)
        self.environment = {"LD_PRELOAD": os.path.join(os.environ["FAULTS_BIN"], "libjumping_clock.so"), "JUMPING_CLOCK": self.path}

    def jump(self, seconds):
        """From now on it is ahead of the real time by so much."""
        self.mapped[:] = struct.pack("=q", int(seconds * 1_000_000_000))


class Node(Broker):
    def __init__(self, number, *arguments):
        super().__init__("--node-id", str(number), *SETTINGS, *arguments, address=address(number))
        self.number = number
        self.disk, self.clock = Disk(self.folder), Clock(self.folder)
        self.environment |= self.clock.environment
        self.command[self.command.index("--data-dir") + 1] = os.path.join(self.disk.path, "data")
        self.command = [*inside(number), *self.command]

    def power_off(self):
        """kill -9, from which moment on the disk keeps nothing either: a sync that is under way has not happened."""
        self.disk.tell("off")
        self.process.kill()

    def power_on(self, seed=None):
        """Of what was not synced nothing is left, or with a seed whatever chance lets survive. It can be started again then."""
        lost = self.disk.tell("forget" if seed is None else f"forget {seed}")
        self.process.wait()
        return lost

    def suspend(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def _clean_up(self):
        self.end()
        if os.environ.get("BROKER_KEEP"):
            shutil.copytree(os.path.join(self.disk.path, "data"), os.path.join(self.folder, "data"), dirs_exist_ok=True)
        self.disk.close()
        super()._clean_up()


class FaultyCluster(Cluster):
    def __init__(self, *arguments, network=None, nodes=3):
        self.network = network or Network(range(1, nodes + 1))
        super().__init__(nodes, *arguments)

    def make(self, number, *arguments):
        return Node(number, *arguments)

    def host(self, number):
        return address(number)

    def restart(self, numbers):
        """Starts these again, all at the same time; seconds that it took."""
        started = time.monotonic()
        self.start(numbers)
        return time.monotonic() - started

    def pick(self, rng: random.Random):
        return self.brokers[rng.choice(sorted(self.brokers))]

    def others(self, node):
        return [number for number in self.brokers if number != node.number]
