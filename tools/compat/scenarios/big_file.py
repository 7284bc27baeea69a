"""A large text file, made of the text files of this machine, goes in line by line and comes back identical (SHA-256).

1. Through kcat into one partition and back; again after a graceful restart; again after kill -9.
2. Through an idempotent producer into four partitions, while the broker is killed with -9 in the middle, several times: after
   each restart nothing acknowledged is missing, and in the end the lines put together again are the file.

usage: big_file.py [--megabytes 500] [--kills 5]
"""

import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Report, quiet

PARTITIONS = 4
MAX_LINE_BYTES = 100_000
EMPTY_LINES = re.compile(rb"\n\n+")


def text_files():
    roots = ["/usr/share", "/usr/include", "/usr/lib/python3", os.path.expanduser("~/.cargo/registry/src"), "/usr/lib"]
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders.sort()
            for name in sorted(files):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path


def build(path, megabytes):
    """Concatenates text files until the size is reached (a second time round when the machine has too few); returns the lines."""
    lines, size, wanted = 0, 0, megabytes * 1_000_000
    with open(path, "wb") as out:
        while size < wanted:
            before = size
            for source in text_files():
                try:
                    with open(source, "rb") as file:
                        data = file.read(20_000_000)
                    data.decode()
                except (OSError, UnicodeDecodeError):
                    continue
                if b"\0" in data or not data.strip(b"\n"):
                    continue
                # kcat leaves empty lines out, with -Z too.
                data = EMPTY_LINES.sub(b"\n", data).strip(b"\n") + b"\n"
                if max(map(len, data.split(b"\n"))) > MAX_LINE_BYTES:
                    continue
                out.write(data)
                lines, size = lines + data.count(b"\n"), size + len(data)
                if size >= wanted:
                    break
            if size == before:
                raise RuntimeError("this machine has no text files")
    return lines


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def create(broker, topic, partitions):
    admin = quiet(AdminClient, {"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(30)


def read_with_kcat(broker, topic):
    """SHA-256 of what comes out, and how long that took."""
    started, digest = time.monotonic(), hashlib.sha256()
    reader = subprocess.Popen(["kcat", "-b", broker.bootstrap, "-C", "-q", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-X", "check.crcs=true"],
                              stdout=subprocess.PIPE)
    while piece := reader.stdout.read(1 << 20):
        digest.update(piece)
    if reader.wait() != 0:
        raise RuntimeError(f"kcat exited with {reader.returncode}")
    return digest.hexdigest(), time.monotonic() - started


def through_kcat(broker, report, path, wanted, megabytes):
    create(broker, "file", 1)
    started = time.monotonic()
    with open(path, "rb") as file:
        subprocess.run(["kcat", "-b", broker.bootstrap, "-P", "-t", "file", "-p", "0", "-z", "lz4"], stdin=file, check=True)
    report.say(f"written by kcat in {time.monotonic() - started:.1f} s ({megabytes / (time.monotonic() - started):.0f} MB/s)")
    for when, between in [("at once", None), ("after a graceful restart", broker.stop), ("after kill -9", broker.kill)]:
        if between:
            between()
            report.say(f"restarted in {broker.start() * 1000:.0f} ms")
        got, seconds = read_with_kcat(broker, "file")
        report.check(got == wanted, f"{when} the file is read back identical, in {seconds:.1f} s ({megabytes / seconds:.0f} MB/s)")


class KilledWhileProducing:
    """The file goes round-robin into partitions; each acknowledgement is noted by partition and offset."""

    def __init__(self, broker, report, path, wanted):
        self.broker, self.report, self.path, self.wanted = broker, report, path, wanted
        self.acknowledged = [0] * PARTITIONS
        self.out_of_order, self.failures = [], []
        self.produced = threading.Event()

    def produce(self):
        producer = quiet(Producer, {
            "bootstrap.servers": self.broker.bootstrap, "enable.idempotence": True, "acks": "all", "compression.type": "zstd",
            "linger.ms": 5, "message.timeout.ms": 2_000_000, "reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 200,
            "queue.buffering.max.messages": 200_000})

        def delivered(error, message):
            if error:
                self.failures.append(str(error))
                return
            partition = message.partition()
            if message.offset() != self.acknowledged[partition]:
                self.out_of_order.append(f"{partition}:{message.offset()}, {self.acknowledged[partition]} expected")
            self.acknowledged[partition] = message.offset() + 1

        with open(self.path, "rb") as file:
            for number, line in enumerate(file):
                while True:
                    try:
                        producer.produce("killed", line, partition=number % PARTITIONS, on_delivery=delivered)
                        break
                    except BufferError:
                        producer.poll(0.05)
                if number % 1000 == 0:
                    producer.poll(0)
        if producer.flush(600):
            self.failures.append("not everything was delivered within 10 minutes")
        self.produced.set()

    def run(self, kills, lines):
        create(self.broker, "killed", PARTITIONS)
        thread = threading.Thread(target=self.produce, daemon=True)
        thread.start()
        rng = random.Random(7)
        done = 0
        for kill in range(kills):
            # Spread over the file.
            goal = lines * (kill + rng.uniform(0.2, 0.8)) / kills
            while sum(self.acknowledged) < goal and not self.produced.wait(0.01):
                pass
            if self.produced.is_set():
                break
            self.broker.kill()
            before = list(self.acknowledged)
            seconds = self.broker.start()
            done += 1
            ends = self.ends()
            lost = [f"partition {p}: {before[p]} acknowledged, {ends[p]} there" for p in range(PARTITIONS) if ends[p] < before[p]]
            self.report.check(not lost, f"kill -9 with {sum(before)} of {lines} lines acknowledged: all of them there after {seconds * 1000:.0f} ms {lost or ''}")
        self.produced.wait()
        thread.join()
        self.report.check(done > 0 or kills == 0, f"{done} kills came in the middle of producing")
        self.report.check(not self.failures, f"every line was acknowledged {self.failures[:3] or ''}")
        self.report.check(not self.out_of_order, f"acknowledged offsets follow each other {self.out_of_order[:3] or ''}")
        self.report.check(self.ends() == self.acknowledged, f"{sum(self.acknowledged)} lines acknowledged, as many are there")
        self.broker.kill()
        self.broker.start()
        self.report.check(self.read_back(lines) == self.wanted, "the lines put together again are the file")

    def ends(self):
        consumer = quiet(Consumer, {"bootstrap.servers": self.broker.bootstrap, "group.id": "no-group"})
        deadline = time.monotonic() + 60
        while True:
            try:
                ends = [consumer.get_watermark_offsets(TopicPartition("killed", p), timeout=10)[1] for p in range(PARTITIONS)]
                break
            except KafkaException:
                # Some brokers answer before all partitions are back.
                if time.monotonic() > deadline:
                    raise
        consumer.close()
        return ends

    def read_back(self, lines):
        """SHA-256 of the lines in the order of the file: line n is in partition n % PARTITIONS at offset n // PARTITIONS."""
        digest = hashlib.sha256()
        readers = []
        for partition in range(PARTITIONS):
            reader = quiet(Consumer, {"bootstrap.servers": self.broker.bootstrap, "group.id": "no-group", "enable.auto.commit": False,
                                      "auto.offset.reset": "error", "check.crcs": True, "queued.max.messages.kbytes": 16_384})
            reader.assign([TopicPartition("killed", partition, 0)])
            readers.append(self.values(reader))
        for number in range(lines):
            digest.update(next(readers[number % PARTITIONS]))
        return digest.hexdigest()

    @staticmethod
    def values(reader):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for message in reader.consume(10_000, timeout=0.2):
                if message.error():
                    raise KafkaException(message.error())
                deadline = time.monotonic() + 60
                yield message.value()
        raise RuntimeError("no more records within 60 s")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--kills", type=int, default=5)
    options = parser.parse_args()
    report, broker = Report("big-file"), Broker()
    broker.start()
    path = os.path.join(broker.folder, "text")
    lines = build(path, options.megabytes)
    wanted = sha256_of(path)
    report.say(f"{os.path.getsize(path) / 1e6:.0f} MB in {lines} lines, sha256 {wanted}")
    through_kcat(broker, report, path, wanted, os.path.getsize(path) / 1e6)
    KilledWhileProducing(broker, report, path, wanted).run(options.kills, lines)
    return report.close(broker)


sys.exit(main())
