"""kcat, the distribution's: an older librdkafka driven from the command line.

kcat has no admin: topics come from auto-creation (one partition, or what the broker's `num.partitions` says) or from whoever
calls `write`. It sets no timestamps, and headers only per call, so only records whose headers fit a command line are written.

usage: program suite DATA | program write TOPIC COMPRESSION DATA | program read TOPIC
"""

import json
import os
import subprocess
import sys
import time

import dataset
from dataset import Record

KEY, END = b"<|key|>", b"<|end|>"
HEAD = "%p %o %T %K %S\n"
DEADLINE_SECONDS = 60


def kcat(*arguments, stdin=None):
    command = [os.fsencode(a) for a in ("kcat", "-b", os.environ["BOOTSTRAP"], *arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=DEADLINE_SECONDS)
    if done.returncode != 0:
        raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout


def writable(record):
    """Whether a command line can say it: no NUL in headers, nothing of ours in the data, and -Z makes every empty field null."""
    argv = all(name and b"\0" not in (value or b"") and "=" not in name for name, value in record.headers)
    text = KEY not in (record.value or b"") and END not in (record.value or b"")
    return argv and text and not (record.value is None and record.key == b"")


def produce(topic, records, compression="none", acks="all", more=()):
    """One kcat per run of records that share partition, headers and whether empty means null."""
    runs, current = [], None
    for record in sorted(records, key=lambda r: r.partition):
        kind = record.partition, record.value is None, record.headers
        if kind != current:
            runs.append((kind, []))
            current = kind
        runs[-1][1].append(record)
    for (partition, null_value, headers), run in runs:
        arguments = ["-P", "-t", topic, "-p", str(partition), "-z", compression, "-X", f"acks={acks}", "-K", KEY, "-D", END, *more]
        for name, value in headers:
            arguments += ["-H", name.encode() if value is None else name.encode() + b"=" + value]
        if null_value:
            arguments.append("-Z")
        lines = [(b"" if r.key is None else r.key + KEY) + (r.value or b"") + END for r in run]
        kcat(*arguments, stdin=b"".join(lines))


def header_text(headers):
    """How kcat prints headers: values up to their first NUL, and nobody can tell a comma within one from the next header."""
    return b",".join(name.encode() + b"=" + (b"NULL" if value is None else value.split(b"\0")[0]) for name, value in headers)


def parse(output):
    out, position = [], 0
    while position < len(output):
        line_end = output.index(b"\n", position)
        partition, offset, timestamp, key_length, value_length = map(int, output[position:line_end].split())
        position = line_end + 1
        key = output[position:position + max(key_length, 0)] if key_length >= 0 else None
        position += max(key_length, 0)
        value = output[position:position + max(value_length, 0)] if value_length >= 0 else None
        position += max(value_length, 0)
        end = output.index(END + b"\n", position)
        record = Record(partition, timestamp, key, value, (), offset)
        record.headers = output[position:end]
        position = end + len(END) + 1
        out.append(record)
    return sorted(out, key=lambda r: (r.partition, r.offset))


def consume(topic, start, partition=None, count=None):
    where = ["-p", str(partition)] if partition is not None else []
    until = ["-c", str(count)] if count is not None else ["-e"]
    return parse(kcat("-C", "-q", "-u", "-t", topic, *where, "-o", str(start), *until, "-X", "check.crcs=true",
                      "-f", HEAD + "%k%s%h" + END.decode() + "\n"))


def line(record, with_timestamp=True):
    headers = record.headers if isinstance(record.headers, bytes) else header_text(record.headers)
    timestamp = record.timestamp if with_timestamp else "*"
    return f"{record.partition}\t{record.offset}\t{timestamp}\t{dataset.text(record.key)}\t{dataset.text(record.value)}\t{headers.hex()}"


def same(got, wanted, with_timestamp=False):
    assert len(got) == len(wanted), f"{len(wanted)} records expected, got {len(got)}"
    for one, other in zip(got, wanted):
        assert line(one, with_timestamp) == line(other, with_timestamp), f"expected {line(other)[:300]}, got {line(one)[:300]}"


def metadata(topic=None):
    topics = json.loads(kcat("-L", "-J", *(["-t", topic] if topic else [])))["topics"]
    return {t["topic"]: len(t["partitions"]) for t in topics if not t.get("error")}


class Suite:
    def __init__(self, records):
        self.prefix = f"kcat-{os.getpid()}-{int(time.time()) % 100000}"
        # Auto-created topics surely have partition 0.
        self.records = [Record(0, r.timestamp, r.key, r.value, r.headers) for r in records if writable(r)]
        self.plain = [r for r in self.records if not r.headers]
        self.passed = self.failed = 0

    def check(self, name, test, *arguments):
        started = time.monotonic()
        try:
            test(*arguments)
        except Exception as error:
            self.failed += 1
            print(f"FAILED kcat: {name}: {type(error).__name__}: {error}", flush=True)
        else:
            self.passed += 1
            print(f"ok kcat: {name} ({time.monotonic() - started:.2f} s)", flush=True)

    def run(self):
        self.check("a topic is created by writing to it, and listed", self.created)
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"]:
            for acks in ["0", "1", "all"]:
                self.check(f"{compression}, acks={acks}: everything written is read back, byte for byte", self.round_trip, compression, acks)
        self.check("keys, headers, empty and null values", self.odd)
        self.check("an idempotent producer's records are there once and in order", self.idempotent)
        self.topic = f"{self.prefix}-read"
        produce(self.topic, self.plain)
        self.check("consumes from an offset, from the end backwards, and a number of records", self.from_offset)
        self.check("finds offsets by timestamp and consumes from there", self.from_timestamp)
        self.check("consumes from the end: only what comes afterwards", self.from_end)
        self.check("20,000 lines, in order", self.many)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return self.failed == 0

    def created(self):
        topic = f"{self.prefix}-auto"
        assert topic not in metadata()
        produce(topic, self.plain[:1])
        assert metadata(topic)[topic] >= 1 and topic in metadata()

    def round_trip(self, compression, acks):
        topic = f"{self.prefix}-{compression}-{acks}"
        produce(topic, self.plain[:1], compression)
        produce(topic, self.plain[1:], compression, acks)
        deadline = time.monotonic() + DEADLINE_SECONDS
        # With acks=0 the producer ends before the broker has it all.
        while len(got := consume(topic, "beginning", 0)) < len(self.plain) and acks == "0" and time.monotonic() < deadline:
            pass
        same(got, dataset.expected(self.plain))

    def odd(self):
        topic = f"{self.prefix}-odd"
        before = time.time() * 1000
        produce(topic, self.records)
        got = consume(topic, "beginning", 0)
        same(got, dataset.expected(self.records))
        assert all(before - 1000 <= r.timestamp <= time.time() * 1000 + 1000 for r in got), "timestamps are those of writing"

    def idempotent(self):
        topic = f"{self.prefix}-idempotent"
        for _ in range(2):
            produce(topic, self.plain, "lz4", more=("-X", "enable.idempotence=true"))
        same(consume(topic, "beginning", 0), dataset.expected(self.plain * 2))

    def from_offset(self):
        wanted = dataset.expected(self.plain)
        same(consume(self.topic, 17, 0), wanted[17:])
        same(consume(self.topic, -5, 0), wanted[-5:])
        same(consume(self.topic, 3, 0, count=4), wanted[3:7])

    def from_timestamp(self):
        records = consume(self.topic, "beginning", 0)
        moment = records[len(records) // 2].timestamp
        first = next(r for r in records if r.timestamp >= moment)
        assert f"[0] offset {first.offset}" in kcat("-Q", "-t", f"{self.topic}:0:{moment}").decode()
        assert "[0] offset -1" in kcat("-Q", "-t", f"{self.topic}:0:{moment + 10_000_000}").decode()
        assert [r.offset for r in consume(self.topic, f"s@{moment}", 0)] == [r.offset for r in records[first.offset:]]

    def from_end(self):
        old = len(self.plain)
        reader = subprocess.Popen(["kcat", "-b", os.environ["BOOTSTRAP"], "-C", "-q", "-u", "-t", self.topic, "-p", "0", "-o", "end", "-c", "1",
                                   "-f", "%o %s\n"], stdout=subprocess.PIPE)
        try:
            # Nobody tells when the reader has found the end, so there is something new until it has read one.
            deadline = time.monotonic() + DEADLINE_SECONDS
            while reader.poll() is None and time.monotonic() < deadline:
                kcat("-P", "-t", self.topic, "-p", "0", stdin=b"new\n")
            offset, value = reader.communicate(timeout=1)[0].split()
        finally:
            reader.kill()
        assert value == b"new" and int(offset) >= old, f"read {value!r} at {offset!r}"

    def many(self):
        topic = f"{self.prefix}-many"
        lines = b"".join(b"%020d %s\n" % (i, b"." * 80) for i in range(20_000))
        kcat("-P", "-t", topic, "-p", "0", "-z", "lz4", stdin=lines)
        assert kcat("-C", "-q", "-t", topic, "-p", "0", "-o", "beginning", "-e") == lines


def main():
    verb, *arguments = sys.argv[1:]
    if verb == "suite":
        sys.exit(0 if Suite(dataset.load(arguments[0])).run() else 1)
    elif verb == "write":
        topic, compression, path = arguments
        produce(topic, [r for r in dataset.load(path) if writable(r)], compression)
    elif verb == "read":
        for record in consume(arguments[0], "beginning"):
            print(line(record))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
