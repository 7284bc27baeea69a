"""What every Python client has to show; the clients' differences are in an `Adapter` each.

usage: program suite DATA NULLS | program write TOPIC COMPRESSION DATA | program read TOPIC | program create TOPIC PARTITIONS
"""

import os
import sys
import time
import traceback

import dataset
from dataset import PARTITIONS, Record

EARLIEST, LATEST = "earliest", "latest"
TOPIC_ALREADY_EXISTS, INVALID_TOPIC, INVALID_REPLICATION_FACTOR, MESSAGE_TOO_LARGE, UNKNOWN_TOPIC = 36, 17, 38, 10, 3
# Unknown topic or partition, leader not available, not leader, and librdkafka's own word for an unknown partition.
NOT_READY = {3, 5, 6, -190}
KEEP_EVERYTHING = {"retention.ms": "-1"}
REPLICATION_FACTOR = int(os.environ.get("REPLICATION_FACTOR", "1"))
DEADLINE_SECONDS = 60


class Adapter:
    """One client library. Offsets are plain integers; errors are told apart by Kafka's number for them."""

    name = None
    compressions = ["none", "gzip", "snappy", "lz4", "zstd"]
    acks = [0, 1, "all"]
    # Whether the library writes records without key and value, and headers without a value.
    writes_nulls = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def create_topic(self, topic, partitions, config): raise NotImplementedError
    def delete_topic(self, topic): raise NotImplementedError
    def partition_counts(self): "name -> number of partitions"; raise NotImplementedError
    def error_code(self, error): "Kafka's number of what went wrong, or None"; raise NotImplementedError
    def produce(self, topic, records, acks="all", compression="none", idempotent=False, max_request=None):
        "(partition, offset) of each record, in order; offsets are None or negative for acks=0"; raise NotImplementedError
    def consume(self, topic, starts, count, then=None):
        "`count` records from partitions at `starts` (offset, EARLIEST or LATEST); `then()` runs once positions are fixed"
        raise NotImplementedError
    def offsets_for_timestamps(self, topic, timestamps): "partition -> offset, None when nothing is as young"; raise NotImplementedError
    def watermarks(self, topic, partition): "first offset, and the one behind the last record"; raise NotImplementedError
    def close(self): pass


class Suite:
    def __init__(self, adapter, records, nulls):
        self.client, self.records, self.nulls = adapter, records, nulls
        self.prefix = f"{adapter.name}-{os.getpid()}-{int(time.time()) % 100000}"
        self.passed = self.failed = 0

    def check(self, name, test, *arguments):
        started = time.monotonic()
        try:
            test(*arguments)
        except Exception as error:
            self.failed += 1
            print(f"FAILED {self.client.name}: {name}: {type(error).__name__}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok {self.client.name}: {name} ({time.monotonic() - started:.2f} s)", flush=True)

    def topic(self, suffix, partitions=PARTITIONS, config=None):
        name = f"{self.prefix}-{suffix}"
        self.client.create_topic(name, partitions, config or KEEP_EVERYTHING)
        # A partition that is not ready yet loses records with acks=0, and puts them out of order without idempotence.
        self.eventually(lambda: self.ready(name, partitions), "the topic is ready")
        return name

    def refused(self, code, what, *arguments, **keywords):
        try:
            what(*arguments, **keywords)
        except Exception as error:
            assert self.client.error_code(error) == code, f"error {code} expected, got {error!r}"
        else:
            raise AssertionError(f"error {code} expected, but it was accepted")

    def run(self):
        self.check("topics are created, listed, refused when wrong, and deleted", self.topics)
        for compression in self.client.compressions:
            for acks in self.client.acks:
                self.check(f"{compression}, acks={acks}: everything written is read back, byte for byte", self.round_trip, compression, acks)
        if self.client.writes_nulls:
            self.check("records with neither key nor value, and headers without a value", self.only_nulls)
        self.check("an idempotent producer's records are there once and in order", self.idempotent)
        self.check("a record over max.message.bytes is refused, the next one is taken", self.too_large)
        self.topic_read = self.topic("read")
        self.client.produce(self.topic_read, self.records)
        self.check("consumes from the earliest offset", self.from_earliest)
        self.check("consumes from the latest offset: only what comes afterwards", self.from_latest)
        self.check("consumes from any offset", self.from_offset)
        self.check("finds offsets by timestamp and consumes from there", self.from_timestamp)
        self.check("first and last offsets are told", self.watermarks)
        self.check("20,000 small records in large batches, in order", self.many)
        self.client.close()
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return self.failed == 0

    def topics(self):
        name = self.topic("admin", partitions=5)
        self.eventually(lambda: self.client.partition_counts().get(name) == 5, "the new topic is listed with 5 partitions")
        self.refused(TOPIC_ALREADY_EXISTS, self.client.create_topic, name, 5, {})
        self.refused(INVALID_TOPIC, self.client.create_topic, f"{name} with spaces", 1, {})
        self.refused(INVALID_REPLICATION_FACTOR, self.client.create_topic, f"{name}-rf", 1, {}, replication=9)
        self.client.delete_topic(name)
        self.eventually(lambda: name not in self.client.partition_counts(), "the deleted topic is gone")
        self.refused(UNKNOWN_TOPIC, self.client.delete_topic, name)

    def eventually(self, condition, what):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited {DEADLINE_SECONDS} s until {what}"
            time.sleep(0.05)

    def same(self, got, wanted):
        got = sorted(got, key=lambda record: (record.partition, record.offset))
        assert len(got) == len(wanted), f"{len(wanted)} records expected, got {len(got)}"
        for one, other in zip(got, wanted):
            assert one.line() == other.line(), f"expected {other.line()[:300]!r}, got {one.line()[:300]!r}"

    def round_trip(self, compression, acks):
        topic = self.topic(f"{compression}-{acks}")
        where = self.client.produce(topic, self.records, acks=acks, compression=compression)
        wanted = dataset.expected(self.records)
        if acks != 0:
            assert sorted(where) == [(r.partition, r.offset) for r in wanted], "acknowledged offsets are not 0, 1, 2, ..."
        self.same(self.client.consume(topic, {p: EARLIEST for p in range(PARTITIONS)}, len(wanted)), wanted)

    def ready(self, topic, partitions):
        try:
            return all(self.client.watermarks(topic, p) == (0, 0) for p in range(partitions))
        except Exception as error:
            if self.client.error_code(error) not in NOT_READY:
                raise
            return False

    def only_nulls(self):
        topic = self.topic("nulls")
        self.client.produce(topic, self.nulls)
        self.same(self.client.consume(topic, {p: EARLIEST for p in range(PARTITIONS)}, len(self.nulls)), dataset.expected(self.nulls))

    def idempotent(self):
        topic = self.topic("idempotent")
        for _ in range(2):
            self.client.produce(topic, self.records, idempotent=True, compression="lz4")
        wanted = dataset.expected(self.records * 2)
        self.same(self.client.consume(topic, {p: EARLIEST for p in range(PARTITIONS)}, len(wanted)), wanted)

    def too_large(self):
        topic = self.topic("too-large", partitions=1)
        big = Record(0, dataset.BASE_TIMESTAMP_MS, b"k", os.urandom(1_500_000))
        self.refused(MESSAGE_TOO_LARGE, self.client.produce, topic, [big], max_request=4_000_000)
        small = Record(0, dataset.BASE_TIMESTAMP_MS, b"k", b"v")
        assert self.client.produce(topic, [small]) == [(0, 0)]

    def from_earliest(self):
        wanted = [r for r in dataset.expected(self.records) if r.partition == 1]
        self.same(self.client.consume(self.topic_read, {1: EARLIEST}, len(wanted)), wanted)

    def from_latest(self):
        topic = self.topic("latest", partitions=1)
        old = [Record(0, dataset.BASE_TIMESTAMP_MS, None, b"old")] * 5
        new = Record(0, dataset.BASE_TIMESTAMP_MS, b"k", b"new")
        self.client.produce(topic, old)
        got = self.client.consume(topic, {0: LATEST}, 1, then=lambda: self.client.produce(topic, [new]))
        assert [(r.offset, r.value) for r in got] == [(5, b"new")], [(r.offset, r.value) for r in got]

    def from_offset(self):
        wanted = [r for r in dataset.expected(self.records) if r.partition == 0 and r.offset >= 17 or r.partition == 2 and r.offset >= 40]
        self.same(self.client.consume(self.topic_read, {0: 17, 2: 40}, len(wanted)), wanted)

    def from_timestamp(self):
        mark = next(r for r in dataset.expected(self.records) if r.key == b"mark")
        first = dataset.expected(self.records)[0]
        found = self.client.offsets_for_timestamps(self.topic_read, {0: mark.timestamp, 1: mark.timestamp + 10_000_000, 2: 0})
        assert found[0] == mark.offset and found[1] is None and found[2] == 0, found
        assert self.client.offsets_for_timestamps(self.topic_read, {0: mark.timestamp - 1})[0] == mark.offset
        assert self.client.offsets_for_timestamps(self.topic_read, {0: mark.timestamp + 1})[0] == mark.offset + 1
        assert self.client.offsets_for_timestamps(self.topic_read, {0: first.timestamp})[0] == 0
        wanted = [r for r in dataset.expected(self.records) if r.partition == 0 and r.offset >= mark.offset]
        self.same(self.client.consume(self.topic_read, {0: found[0]}, len(wanted)), wanted)

    def watermarks(self):
        for partition in range(PARTITIONS):
            count = sum(r.partition == partition for r in self.records)
            assert self.client.watermarks(self.topic_read, partition) == (0, count)

    def many(self):
        topic = self.topic("many", partitions=2)
        records = [Record(i % 2, dataset.BASE_TIMESTAMP_MS + i, None, b"%020d" % i + b"." * 80) for i in range(20_000)]
        self.client.produce(topic, records, compression="lz4")
        self.same(self.client.consume(topic, {0: EARLIEST, 1: EARLIEST}, len(records)), dataset.expected(records))


def main(adapter_type):
    sys.stdout.reconfigure(line_buffering=True)
    client = adapter_type(os.environ["BOOTSTRAP"])
    verb, *arguments = sys.argv[1:]
    if verb == "suite":
        sys.exit(0 if Suite(client, *map(dataset.load, arguments)).run() else 1)
    elif verb == "write":
        topic, compression, path = arguments
        client.produce(topic, dataset.load(path), compression=compression)
    elif verb == "create":
        client.create_topic(arguments[0], int(arguments[1]), KEEP_EVERYTHING)
    elif verb == "read":
        topic = arguments[0]
        ends = {p: client.watermarks(topic, p)[1] for p in range(client.partition_counts()[topic])}
        got = client.consume(topic, {p: EARLIEST for p in ends}, sum(ends.values()))
        for record in sorted(got, key=lambda record: (record.partition, record.offset)):
            print(record.line())
    else:
        sys.exit(__doc__)
    client.close()
