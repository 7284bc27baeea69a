"""A full load over thousands of connections beside a small --memory: the resident set never exceeds that by more than 15 %.

usage: memory_budget.py [--memory 256M] [--connections 2000] [--seconds 12]

Producers write as fast as the broker takes it, small batches into many partitions and large ones into a few; consumers read all of it meanwhile, from
the beginning, and check it. Each has a connection for each partition; the rest of the connections are silent.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time

from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Report, quiet
from memory import Sampler, bytes_of, most_descriptors

# What the resident set may be, of --memory.
BOUND = 1.15
# Less than this share of --memory in use, or less than this written, is no full load, and shows nothing.
LOAD = 0.7
WRITTEN_BYTES_PER_SECOND = 20e6
PRODUCERS, READERS = 4, 4
LARGE_PARTITIONS = 8
DEADLINE_SECONDS = 60


def bench(broker, *arguments):
    """Starts the load generator."""
    command = [os.environ["BENCH_BIN"], *arguments, "--bootstrap", broker.bootstrap, "--quiet", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def connections(broker):
    """How many clients the broker says are connected."""
    return int(broker.metric("kafka_server_socket_server_metrics_connection_count", timeout=DEADLINE_SECONDS))


def ended(report, what, process):
    """The report of a load generator, which waits for its end; empty if it has failed."""
    try:
        output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = "", f"still running after {DEADLINE_SECONDS} s"
    report.check(process.returncode == 0, f"{what} found nothing wrong{'' if process.returncode == 0 else f': {(errors + output)[-500:]}'}")
    return json.loads(output) if process.returncode == 0 else {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--memory", default="256M")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=12)
    options = parser.parse_args()
    if options.connections > most_descriptors() - 500:
        print(f"skipped: {most_descriptors()} descriptors are too few")
        return 1 if os.environ.get("CI") else 0
    report, broker = Report("memory-budget"), Broker("--cores", "0", "--memory", options.memory)
    broker.start()
    # Nine of ten have something to do; the silent ones are more than the rest, because not all that have come to an end at the same time.
    partitions = options.connections * 9 // 10 // (PRODUCERS + READERS)
    admin = quiet(AdminClient, {"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic("small", partitions, 1), NewTopic("large", LARGE_PARTITIONS, 1)]).values():
        future.result(DEADLINE_SECONDS)
    del admin
    sampler = Sampler(broker)
    sampler.start()
    seconds, most = ["--duration", f"{options.seconds}s"], 0
    with contextlib.ExitStack() as stack:
        for _ in range(options.connections // 5):
            stack.enter_context(socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_SECONDS))
        small = bench(broker, "produce", "--topic", "small", "--rate", "max", "--size", "1KiB", "--producers", str(PRODUCERS), "--connections", str(partitions), *seconds)
        large = bench(broker, "produce", "--topic", "large", "--rate", "max", "--size", "100..20KiB", "--batch-bytes", "700KiB", "--connections", str(LARGE_PARTITIONS), *seconds)
        readers = [bench(broker, "consume", "--topic", "small", "--from", "beginning", "--consumers", "1", "--connections", str(partitions), *seconds) for _ in range(READERS)]
        readers.append(bench(broker, "consume", "--topic", "large", "--from", "beginning", *seconds))
        while small.poll() is None:
            most = max(most, connections(broker))
            time.sleep(0.2)
        written = [ended(report, what, process) for what, process in [("the producers of small batches", small), ("the producer of large batches", large)]]
        read = [ended(report, "a consumer", reader) for reader in readers]
    rate = sum(run.get("payload_bytes_per_second", 0) for run in written)
    report.say(f"written {rate / 1e6:.0f} MB/s, read {sum(run.get('payload_bytes_per_second', 0) for run in read) / 1e6:.0f} MB/s over {most} connections")
    bytes_allowed = bytes_of(options.memory)
    report.say(f"largest resident set {sampler.peak / 1e6:.0f} MB, {sampler.peak / bytes_allowed:.2f} of {options.memory}")
    report.check(most >= options.connections, f"{options.connections} clients were connected at once")
    report.check(rate >= WRITTEN_BYTES_PER_SECOND and sampler.peak >= LOAD * bytes_allowed, "the load was a full one")
    report.check(sampler.peak <= BOUND * bytes_allowed, f"memory stayed within {(BOUND - 1) * 100:.0f} % above {options.memory}")
    report.check(broker.alive(), "the broker is up")
    return report.close(broker)


sys.exit(main())
