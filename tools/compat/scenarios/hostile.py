"""Hostile clients, with plain sockets. The broker stays up, its memory stays bounded, and a good client is served all the time.

usage: hostile.py [--connections 10000] [--depth 24] [--memory 256M]

--depth: after how many zero bytes of a request's body, at most, the lie about a length is told
"""

import argparse
import contextlib
import os
import random
import socket
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Report, quiet
from memory import Sampler, bytes_of, most_descriptors
from cluster import NODES, REPLICATION_FACTOR, one_or_several

# What the broker may use beyond --memory: code, the journal's buffers, page tables, the allocator's slack.
SLACK_BYTES = 200_000_000
DEADLINE_SECONDS = 30
HUGE = 2**31 - 1
# The last key of Kafka 4.1, and a few that nobody knows.
LAST_API_KEY = 95


class GoodClient(threading.Thread):
    """Writes a record and reads it back, again and again; remembers the longest that took."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.bootstrap, self.rounds, self.slowest, self.problem = bootstrap, 0, 0.0, None
        self.ending = threading.Event()

    def run(self):
        try:
            producer = quiet(Producer, {"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 0})
            consumer = quiet(Consumer, {"bootstrap.servers": self.bootstrap, "group.id": "no-group", "enable.auto.commit": False})
            consumer.assign([TopicPartition("good", 0, 0)])
            while not self.ending.wait(0.02):
                started, value = time.monotonic(), f"round {self.rounds}".encode()
                producer.produce("good", value, partition=0)
                if producer.flush(DEADLINE_SECONDS):
                    raise RuntimeError("not acknowledged in time")
                message = consumer.poll(DEADLINE_SECONDS)
                if message is None:
                    raise RuntimeError("not read back in time")
                if message.error():
                    raise KafkaException(message.error())
                if message.value() != value:
                    raise RuntimeError(f"{value} expected, {message.value()} read")
                self.rounds, self.slowest = self.rounds + 1, max(self.slowest, time.monotonic() - started)
            consumer.close()
        except Exception as problem:
            self.problem = problem


class Attack:
    def __init__(self, broker, report, good, options):
        self.broker, self.report, self.good, self.options = broker, report, good, options
        self.rng, self.connections = random.Random(11), 0

    def connect(self):
        self.connections += 1
        return socket.create_connection(("127.0.0.1", self.broker.port), timeout=DEADLINE_SECONDS)

    def closes(self, data):
        """Whether the broker closes the connection after this; answers before that are read and thrown away."""
        with self.connect() as connection:
            try:
                connection.sendall(data)
                deadline = time.monotonic() + DEADLINE_SECONDS
                while time.monotonic() < deadline:
                    if not connection.recv(65536):
                        return True
            except (ConnectionResetError, BrokenPipeError):
                return True
            except TimeoutError:
                pass
            return False

    def round(self, name, body):
        started, rounds = time.monotonic(), self.good.rounds
        self.good.slowest = 0.0
        body()
        # The good client has to get through once more before the next attack.
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.good.rounds < rounds + 3 and self.good.problem is None and time.monotonic() < deadline:
            time.sleep(0.01)
        served = self.good.problem is None and self.good.rounds > rounds
        self.report.check(self.broker.alive() and served,
                          f"{name}: the broker is up and the good client is served: {self.good.rounds - rounds} rounds, "
                          f"the slowest {self.good.slowest * 1000:.0f} ms, in {time.monotonic() - started:.1f} s{'' if served else f': {self.good.problem}'}")

    def garbage(self):
        for _ in range(200):
            with self.connect() as connection, contextlib.suppress(ConnectionError):
                connection.sendall(self.rng.randbytes(self.rng.choice([1, 3, 4, 5, 14, 100, 5_000, 60_000])))

    def strangers(self):
        hello = bytes.fromhex("16030100c8010000c40303") + self.rng.randbytes(32) + b"\0" * 160
        for name, data in {
            "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "TLS": hello, "SSH": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
            "2 GiB": struct.pack(">i", HUGE) + b"x" * 1000, "negative length": struct.pack(">i", -1), "most negative length": struct.pack(">i", -2**31),
            "101 MiB": struct.pack(">i", 101 << 20) + b"x" * 1000,
        }.items():
            self.report.check(self.closes(data), f"{name}: the connection is closed")

    def lies_about_lengths(self):
        """A length of 2^31-1 at every place near the start of every version of every request, in both encodings."""
        lies = [struct.pack(">i", HUGE) * 3, b"\xff\xff\xff\xff\x07" * 3, b"\xff\xff\xff\xff\x0f", b"\x7f\xff" * 4]
        sent = 0
        for key, (low, high) in sorted(self.versions().items()):
            for version in range(max(low, 0), high + 1):
                for depth in range(self.options.depth + 1):
                    for lie in lies:
                        # Header version 2 has a tag section after the client id; in version 1 that byte belongs to the body.
                        for tags in (b"", b"\0"):
                            body = struct.pack(">hhih", key, version, 1, 4) + b"liar" + tags + b"\0" * depth + lie
                            with self.connect() as connection, contextlib.suppress(ConnectionError):
                                connection.sendall(struct.pack(">i", len(body)) + body)
                                connection.shutdown(socket.SHUT_WR)
                                if sent % 16 == 0:
                                    # Keeps pace with the broker instead of filling its backlog.
                                    while connection.recv(65536):
                                        pass
                            sent += 1
        self.report.say(f"{sent} requests with lies about lengths")

    def versions(self):
        """Advertised versions, one more at either end, and version 0 of every key that is not advertised."""
        with self.connect() as connection:
            request = struct.pack(">hhih", 18, 0, 1, 1) + b"v"
            connection.sendall(struct.pack(">i", len(request)) + request)
            reader = connection.makefile("rb")
            answer = reader.read(struct.unpack(">i", reader.read(4))[0])
        count, = struct.unpack_from(">i", answer, 6)
        advertised = {key: (low - 1, high + 1) for key, low, high in (struct.unpack_from(">hhh", answer, 10 + 6 * i) for i in range(count))}
        return {key: advertised.get(key, (0, 0)) for key in range(LAST_API_KEY + 1)}

    def half_requests(self):
        """A hundred connections that each announce 90 MB, send a little of it, and wait."""
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                connection = stack.enter_context(self.connect())
                with contextlib.suppress(ConnectionError):
                    connection.sendall(struct.pack(">ihhih", 90_000_000, 0, 9, 1, -1) + b"\0" * 10_000)
            time.sleep(2)

    def silence(self):
        with contextlib.ExitStack() as stack:
            for _ in range(self.options.connections):
                stack.enter_context(self.connect())
            self.report.say(f"{self.options.connections} silent connections: {self.broker.rss_bytes() / 1e6:.0f} MB resident")
            time.sleep(2)
            self.report.check(self.good.problem is None, f"the good client is served beside {self.options.connections} silent connections")

    def never_reads(self):
        """Twenty connections ask for 20 MB a hundred times each and read nothing."""
        name = b"bulk"
        body = struct.pack(">hhih", 1, 4, 1, 4) + b"glut" + struct.pack(">iiiib", -1, 100, 1, 50_000_000, 0)
        body += struct.pack(">ih", 1, len(name)) + name + struct.pack(">iiqi", 1, 0, 0, 20_000_000)
        request = struct.pack(">i", len(body)) + body
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                connection = stack.enter_context(self.connect())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.settimeout(1)
                with contextlib.suppress(TimeoutError, ConnectionError):
                    connection.sendall(request * 100)
            time.sleep(3)


def bulk(broker):
    producer = quiet(Producer, {"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 20, "batch.size": 900_000})
    for _ in range(1200):
        producer.produce("bulk", os.urandom(50_000), partition=0)
        producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("the bulk was not written in time")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--depth", type=int, default=24)
    parser.add_argument("--memory", default="256M")
    options = parser.parse_args()
    options.connections = min(options.connections, most_descriptors() - 500)
    report, broker = Report("hostile"), one_or_several("--memory", options.memory)
    broker.start()
    admin = quiet(AdminClient, {"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic("good", 1, REPLICATION_FACTOR), NewTopic("bulk", 1, REPLICATION_FACTOR)]).values():
        future.result(30)
    del admin
    bulk(broker)
    report.say(f"before: {broker.rss_bytes() / 1e6:.0f} MB resident")
    good, sampler = GoodClient(broker.bootstrap), Sampler(broker)
    good.start()
    sampler.start()
    descriptors = lambda: len(os.listdir(f"/proc/{broker.process.pid}/fd"))
    before = descriptors()
    attack = Attack(broker, report, good, options)
    attack.round("random bytes", attack.garbage)
    attack.round("other protocols and impossible lengths", attack.strangers)
    attack.round("lengths of 2^31-1 in every request", attack.lies_about_lengths)
    attack.round("announced and not sent", attack.half_requests)
    attack.round("silent connections", attack.silence)
    attack.round("clients that never read", attack.never_reads)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while descriptors() > before + 20 and time.monotonic() < deadline:
        time.sleep(0.1)
    report.check(descriptors() <= before + 20, f"all connections are given back: {descriptors()} descriptors, {before} before")
    good.ending.set()
    good.join(DEADLINE_SECONDS)
    report.check(good.problem is None and good.rounds > 0, f"the good client was served {good.rounds} times, to the end{'' if good.problem is None else f': {good.problem}'}")
    report.say(f"largest resident set {sampler.peak / 1e6:.0f} MB")
    if "BROKER_COMMAND" not in os.environ:
        bound = NODES * (bytes_of(options.memory) + SLACK_BYTES)
        report.check(sampler.peak <= bound, f"memory stayed under {options.memory} and {SLACK_BYTES // 1_000_000} MB")
        with open(broker.log_path, errors="replace") as log:
            lines = sum(1 for _ in log)
        report.check(lines <= attack.connections + 500, f"{lines} log lines for {attack.connections} connections")
    return report.close(broker)


sys.exit(main())
