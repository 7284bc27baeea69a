"""The records that every client writes and every client reads, as text that needs no library to parse.

One line per record: partition, timestamp in ms, key, value, headers, separated by tabs. Keys and values are hexadecimal,
`~` is null. Headers are `name:value` pairs joined by commas, both hexadecimal, `~` for a null value. What a client has read
is printed with the offset as second column. The data is the same in every run: seeded, no clock.
"""

import random
import sys

PARTITIONS = 3
# 2023-11-14T22:13:20Z: the suites' topics keep everything (retention.ms=-1), whatever its age.
BASE_TIMESTAMP_MS = 1_700_000_000_000
# A timestamp that only one record has; the record is in partition 0 and everything after it is younger.
MARK_TIMESTAMP_MS = BASE_TIMESTAMP_MS + 1_000_000


class Record:
    __slots__ = ("partition", "offset", "timestamp", "key", "value", "headers")

    def __init__(self, partition, timestamp, key, value, headers=(), offset=None):
        self.partition, self.timestamp, self.offset = partition, timestamp, offset
        self.key, self.value, self.headers = key, value, list(headers)

    def body(self):
        headers = ",".join(f"{name.encode().hex()}:{text(value)}" for name, value in self.headers)
        return f"{text(self.key)}\t{text(self.value)}\t{headers}"

    def line(self):
        offset = "" if self.offset is None else f"{self.offset}\t"
        return f"{self.partition}\t{offset}{self.timestamp}\t{self.body()}"


def text(data):
    return "~" if data is None else data.hex()


def untext(word):
    return None if word == "~" else bytes.fromhex(word)


def parse(line):
    partition, timestamp, key, value, headers = line.rstrip("\n").split("\t")
    pairs = [pair.split(":") for pair in headers.split(",") if pair]
    return Record(int(partition), int(timestamp), untext(key), untext(value),
                  [(bytes.fromhex(name).decode(), untext(value)) for name, value in pairs])


def load(path):
    with open(path, encoding="ascii") as file:
        return [parse(line) for line in file]


def expected(records):
    """The same records with the offsets that an empty topic gives them, ordered by partition and offset."""
    ends, out = {}, []
    for record in records:
        offset = ends.get(record.partition, 0)
        ends[record.partition] = offset + 1
        out.append(Record(record.partition, record.timestamp, record.key, record.value, record.headers, offset))
    return sorted(out, key=lambda record: (record.partition, record.offset))


def generate():
    rng = random.Random(20250101)
    clock = BASE_TIMESTAMP_MS
    every_byte = bytes(range(256))

    def record(partition, key, value, headers=(), step=7):
        nonlocal clock
        clock += step
        return Record(partition, clock, key, value, headers)

    # The odd ones, in every partition. What some clients refuse to write is in `nulls`.
    for partition in range(PARTITIONS):
        yield record(partition, None, b"no key")
        yield record(partition, b"", b"empty key")
        yield record(partition, b"null value", None)
        yield record(partition, b"empty value", b"")
        yield record(partition, b"", b"")
        yield record(partition, every_byte, every_byte[::-1])
        yield record(partition, "clé-ключ-鍵-🔑".encode(), "naïve — данные — データ\r\n\t\0".encode())
        yield record(partition, b"one header", b"v", [("content-type", b"text/plain")])
        yield record(partition, b"many headers", b"v", [(f"h{i}", bytes([i])) for i in range(20)])
        yield record(partition, b"same name", b"v", [("again", b"1"), ("again", b"2"), ("again", b"1")])
        yield record(partition, b"empty header", b"v", [("empty", b""), ("", b"empty name")])
        yield record(partition, b"utf-8 header", b"v", [("en-tête-заголовок", every_byte)])
        # Timestamps stand still, and go back: producers may, brokers keep them.
        yield record(partition, b"same time", b"v", step=0)
        yield record(partition, b"back in time", b"v", step=-5000)
        yield record(partition, b"forward again", b"v", step=5000)
    # Plain ones, keys and sizes as they come.
    for i in range(240):
        size = rng.choice([1, 10, 100, 100, 100, 1000])
        value = rng.randbytes(size) if i % 2 else (b"%06d " % i) * (size // 7 + 1)
        yield record(i % PARTITIONS, b"key-%d" % (i % 17), value, [("i", b"%d" % i)] if i % 5 == 0 else ())
    # Big ones: one that packs well, one that does not, and a record that packs a thousandfold.
    yield record(0, b"big text", b"all work and no play makes a dull log\n" * 4000)
    yield record(1, b"big noise", rng.randbytes(200_000))
    yield record(2, b"zeros", bytes(700_000))
    # A timestamp to look for, with only younger ones after it.
    clock = MARK_TIMESTAMP_MS
    yield Record(0, clock, b"mark", b"found by its timestamp")
    for partition in range(PARTITIONS):
        for i in range(10):
            yield record(partition, b"after %d" % i, b"younger than the mark")


def nulls():
    """Records that Kafka allows and that some clients refuse to write: neither key nor value, and headers without a value."""
    for partition in range(PARTITIONS):
        yield Record(partition, BASE_TIMESTAMP_MS, None, None)
        yield Record(partition, BASE_TIMESTAMP_MS + 1, b"k", b"v", [("null", None)])
        yield Record(partition, BASE_TIMESTAMP_MS + 2, None, None, [("null", None), ("empty", b""), ("null", None)])


if __name__ == "__main__":
    sys.stdout.writelines(f"{record.line()}\n" for record in (nulls() if sys.argv[1:] == ["nulls"] else generate()))
