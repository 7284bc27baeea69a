"""Many updates of few keys in a compacted topic, while a reader reads and the broker is killed in the middle of compaction.

An idempotent producer is the only writer of each partition, so the n-th record that it sends there is at offset n; records carry that number.
At the end each key's last record is there once, at its offset, and nothing else; after a restart too.
usage: compaction.py [--updates N] [--keys N] [--kills N] [--seed S]
"""

import argparse
import array
import json
import os
import random
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Report, quiet

TOPIC, PARTITIONS = "compaction", 2
PADDING = b"." * 80
SETTLED_SECONDS = 300


def read_through(bootstrap, take):
    """Hands every record of the topic, as it is now, to take(partition, offset, key, value)."""
    client = quiet(Consumer, {"bootstrap.servers": bootstrap, "group.id": "no-group", "enable.auto.commit": False, "auto.offset.reset": "error",
                              "enable.partition.eof": True, "check.crcs": True, "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 200,
                              "fetch.max.bytes": 4 << 20, "max.partition.fetch.bytes": 2 << 20, "queued.max.messages.kbytes": 32 << 10})
    try:
        client.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
        at_end, last_news = set(), time.monotonic()
        while len(at_end) < PARTITIONS:
            messages = client.consume(10_000, timeout=0.5)
            if messages:
                last_news = time.monotonic()
            elif time.monotonic() - last_news > 120:
                raise RuntimeError("nothing came for 120 s")
            for message in messages:
                if message.error() is None:
                    take(message.partition(), message.offset(), message.key(), message.value())
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    at_end.add(message.partition())
                elif message.error().code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                    raise KafkaException(message.error())
    finally:
        client.close()


class Order:
    """Offsets ascend, and every record is one that was written there."""

    def __init__(self):
        self.last, self.records, self.problems = [-1] * PARTITIONS, 0, []

    def take(self, partition, offset, key, value):
        self.records += 1
        if offset <= self.last[partition]:
            self.problems.append(f"offset {offset} of partition {partition} follows {self.last[partition]}")
        self.last[partition] = offset
        if int(key) % PARTITIONS != partition:
            self.problems.append(f"offset {offset} of partition {partition}: key {key} of another one")
        if value is not None and int(value[:12]) != offset:
            self.problems.append(f"offset {offset} of partition {partition} holds record {value[:12]}")


def reader(bootstrap):
    """Reads the topic again and again until its input is closed; tells how often, and what was wrong."""
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    rounds, records, problems = 0, 0, []
    while not is_over.is_set():
        order = Order()
        read_through(bootstrap, order.take)
        rounds, records, problems = rounds + 1, records + order.records, problems + order.problems
    print(json.dumps({"rounds": rounds, "records": records, "problems": problems[:10]}))


class Watch:
    """Looks at the broker all the time: its largest memory, and how much compaction has read."""

    def __init__(self, broker):
        self.broker, self.peak_bytes, self.read_bytes = broker, 0, 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                self.peak_bytes = max(self.peak_bytes, self.broker.rss_bytes())
                self.read_bytes = self.broker.metric("broker_cleaner_read_bytes_total", timeout=5)
            except (OSError, StopIteration, ValueError):
                self.read_bytes = 0
            time.sleep(0.02)

    def in_the_middle(self, seconds):
        """Waits until compaction is reading; false if it did not within the time."""
        deadline, before = time.monotonic() + seconds, self.read_bytes
        while time.monotonic() < deadline:
            if self.read_bytes > before > 0 or (before == 0 and self.read_bytes > 0):
                return True
            before = self.read_bytes
            time.sleep(0.01)
        return False


class Writer:
    """Sends updates of random keys, and knows where each key's last one must be."""

    def __init__(self, bootstrap, keys, seed):
        self.producer = quiet(Producer, {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4",
                                         "batch.size": 256 << 10, "queue.buffering.max.messages": 500_000, "delivery.timeout.ms": 600_000,
                                         "reconnect.backoff.max.ms": 200, "on_delivery": self._delivered})
        self.rng, self.keys = random.Random(seed), keys
        self.last = array.array("q", [-1]) * keys
        self.deleted = bytearray(keys)
        self.next_offset, self.failed = [0] * PARTITIONS, 0

    def _delivered(self, error, _message):
        self.failed += error is not None

    def write(self, updates):
        produce, poll, rnd = self.producer.produce, self.producer.poll, self.rng.random
        for number in range(updates):
            key = int(rnd() * self.keys)
            partition = key % PARTITIONS
            offset = self.next_offset[partition]
            is_tombstone = rnd() < 0.01
            value = None if is_tombstone else b"%012d%b" % (offset, PADDING)
            while True:
                try:
                    produce(TOPIC, key=b"%08d" % key, value=value, partition=partition)
                    break
                except BufferError:
                    poll(0.1)
            self.next_offset[partition], self.last[key], self.deleted[key] = offset + 1, offset, is_tombstone
            if number % 1000 == 0:
                poll(0)

    def flush(self):
        return self.producer.flush(300) == 0 and self.failed == 0


def verify(report, broker, writer, what):
    """Reads the topic and compares it with what must be left. Says whether nothing but that is there."""
    order, found, twice = Order(), array.array("q", [-1]) * writer.keys, 0

    def take(partition, offset, key, value):
        nonlocal twice
        order.take(partition, offset, key, value)
        key = int(key)
        twice += found[key] >= 0
        found[key] = offset
        if (value is None) != bool(writer.deleted[key]) and offset == writer.last[key]:
            order.problems.append(f"key {key} at offset {offset}: deleted or not?")

    read_through(broker.bootstrap, take)
    wrong = [key for key in range(writer.keys) if found[key] != writer.last[key]]
    if what:
        report.check(not order.problems, f"{what}: {order.records} records, in order, each as it was written" + "".join(f"; {p}" for p in order.problems[:5]))
        report.check(not wrong, f"{what}: each key's last record is at its offset" + "".join(f"; key {k} at {found[k]}, not {writer.last[k]}" for k in wrong[:5]))
        report.check(twice == 0, f"{what}: each key is there once" + (f"; {twice} records too many" if twice else ""))
    elif order.problems or wrong:
        report.check(False, f"while it settles: {order.problems[:5]}, {len(wrong)} keys are wrong")
    return twice == 0


def passes(broker):
    """(milliseconds, bytes read) of every pass that the broker's log tells of."""
    with open(broker.log_path, errors="replace") as log:
        lines = [line for line in log if "log compacted" in line]
    field = lambda line, name: int(line.split(f"{name}=")[1].split()[0])
    return [(field(line, "duration_ms"), field(line, "bytes_before")) for line in lines]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=10_000_000)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--segment-mib", type=int, default=16)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    report, rng = Report("compaction"), random.Random(options.seed)
    report.say(f"{options.updates} updates of {options.keys} keys, {options.kills} kills, seed {options.seed}")
    # A look for work every half second, and a topic that is due early and closes its last segment soon.
    broker = Broker("--set", "log_cleaner_backoff_ms=500")
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    config = {"cleanup.policy": "compact", "segment.bytes": str(options.segment_mib << 20), "min.cleanable.dirty.ratio": "0.3", "max.compaction.lag.ms": "5000"}
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=config)]).values():
        future.result(30)
    del admin
    watch = Watch(broker)
    reading = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--read", broker.bootstrap], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    writer = Writer(broker.bootstrap, options.keys, options.seed)
    began, kills, in_the_middle = time.monotonic(), 0, 0

    def kill():
        nonlocal kills, in_the_middle
        in_the_middle += watch.in_the_middle(15)
        time.sleep(rng.uniform(0, 0.2))
        broker.kill()
        seconds = broker.start()
        kills += 1
        report.say(f"kill {kills}: back after {seconds * 1000:.0f} ms, {sum(writer.next_offset)} updates sent")

    # The last kill comes when all is written and only compaction is at work.
    parts = max(options.kills, 1)
    for part in range(parts):
        writer.write(options.updates // parts + (options.updates % parts if part == 0 else 0))
        if part + 1 < parts:
            kill()
    report.check(writer.flush(), f"{sum(writer.next_offset)} updates were acknowledged")
    written = time.monotonic()
    if options.kills:
        kill()
        # How long a pass takes is the machine's affair, so this is told and not judged; storage's own tests crash at every operation.
        report.say(f"{in_the_middle} of {kills} kills came while compaction was reading")
    while not verify(report, broker, writer, None) and time.monotonic() - written < SETTLED_SECONDS:
        time.sleep(1)
    settled = time.monotonic()
    told = json.loads(reading.communicate()[0])
    report.check(told["rounds"] > 0 and not told["problems"], f"a reader read the topic {told['rounds']} times meanwhile, {told['records']} records, {told['problems'] or 'all in order'}")
    verify(report, broker, writer, "compacted")
    report.say(f"written in {written - began:.1f} s ({options.updates / (written - began):.0f} records/s), compacted {settled - written:.1f} s later, found by reading")
    done = passes(broker)
    busy_ms, read_bytes = sum(ms for ms, _ in done), sum(size for _, size in done)
    report.say(f"{len(done)} passes over {read_bytes / 1e6:.0f} MB of segments in {busy_ms / 1000:.1f} s: {read_bytes / 1e3 / max(busy_ms, 1):.0f} MB/s; the broker's largest memory: {watch.peak_bytes / 1e6:.0f} MB")
    broker.stop()
    broker.start()
    verify(report, broker, writer, "after a restart")
    return report.close(broker)


if sys.argv[1:2] == ["--read"]:
    reader(sys.argv[2])
    sys.exit(0)
sys.exit(main())
