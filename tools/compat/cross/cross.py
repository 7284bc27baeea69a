"""Every client's data read by every other client. usage: cross.py FOLDER_OF_SUITES DATA

Each writer writes the shared records once per compression into a topic of its own; each reader prints what it finds there, and
that must be what was meant to be written: partitions, offsets, timestamps, keys, values, headers.
"""

import os
import subprocess
import sys
import time

import client_kcat
import dataset

COMPRESSIONS = ["none", "gzip", "snappy", "lz4", "zstd"]
READERS = ["kcat", "rdkafka", "confluent-kafka", "kafka-python", "aiokafka", "java", "franz-go"]
# The consumer of kafkajs cannot do without a group.
WRITERS = [*READERS, "kafkajs"]
TIMEOUT_SECONDS = 600


class Skipped(Exception):
    pass


def run(folder, client, *arguments):
    done = subprocess.run([os.path.join(folder, client, "run"), *arguments], capture_output=True, timeout=TIMEOUT_SECONDS, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{client} {arguments[0]} exited with {done.returncode}: {(done.stdout + done.stderr)[-1000:]}")
    if done.stdout.startswith("skipped:"):
        raise Skipped(done.stdout.strip())
    return done.stdout


def wanted_lines(writer, reader, records):
    if writer == "kcat":
        records = [r for r in records if client_kcat.writable(r)]
    rows = dataset.expected(records * len(COMPRESSIONS))
    if reader == "kcat":
        return [client_kcat.line(r, with_timestamp=writer != "kcat") for r in rows]
    lines = [r.line() for r in rows]
    return [without_timestamp(line) for line in lines] if writer == "kcat" else lines


def without_timestamp(line):
    column = line.split("\t")
    return "\t".join([*column[:2], "*", *column[3:]])


def main(folder, path):
    records = dataset.load(path)
    prefix = f"cross-{os.getpid()}-{int(time.time()) % 100000}"
    passed = failed = skipped = 0
    for writer in WRITERS:
        topic = f"{prefix}-{writer}"
        try:
            run(folder, "confluent-kafka", "create", topic, str(dataset.PARTITIONS))
            for compression in COMPRESSIONS:
                run(folder, writer, "write", topic, compression, path)
        except Skipped as reason:
            skipped += len(READERS)
            print(f"{writer} writes nothing: {reason}", flush=True)
            continue
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"FAILED {writer} does not write: {error}", flush=True)
            continue
        for reader in READERS:
            try:
                got = run(folder, reader, "read", topic).split("\n")[:-1]
            except Skipped as reason:
                skipped += 1
                print(f"{reader} reads nothing: {reason}", flush=True)
                continue
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED {writer} -> {reader}: {error}", flush=True)
                continue
            if writer == "kcat":
                got = [without_timestamp(line) for line in got]
            wanted = wanted_lines(writer, reader, records)
            wrong = next((i for i, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]), None)
            if wrong is None and len(got) == len(wanted):
                passed += 1
                print(f"ok {writer} -> {reader}: {len(got)} records", flush=True)
            else:
                failed += 1
                detail = f"{len(got)} records, {len(wanted)} expected" if wrong is None else f"{got[wrong][:300]!r} and not {wanted[wrong][:300]!r}"
                print(f"FAILED {writer} -> {reader}: {detail}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped" if skipped else f"{passed} passed, {failed} failed", flush=True)
    return failed == 0


sys.exit(0 if main(*sys.argv[1:]) else 1)
