"""Large answers are sent without a copy in the kernel (MSG_ZEROCOPY), and come out identical.

The reader lives in a network namespace of its own behind a veth pair, so that the connection is not a loopback one. With "off", "auto" and
"always" a topic is read with kcat; the metrics say what was sent how, and the process's CPU time is told for each. On a veth pair the
kernel copies on the receiving side after all, and says so: "auto" has to go back to ordinary sends, "always" shows that memory is held until
the kernel has done with it, and given back. In the end readers die in the middle, their link goes down, and the broker is stopped.

usage: zero_copy.py [--megabytes 300]
"""

import argparse
import atexit
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

from broker import Broker, Report

TOPIC = "large"
RECORD_BYTES = 500_000
SOCKET = "kafka_server_socket_server_metrics_"
NAMESPACE = f"zero-copy-{os.getpid()}"
# A network of its own for each run: 198.18.0.0/15 is set aside for benchmarks.
NETWORK = f"198.18.{os.getpid() % 250}"
BROKER_IP, READER_IP = f"{NETWORK}.1", f"{NETWORK}.2"
LINK = f"zc{os.getpid() % 10_000_000}"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


def connect_namespaces():
    """None, or why there is no veth pair."""
    if not shutil.which("ip"):
        return "no `ip` (apt-get install iproute2)"
    made = run("ip", "netns", "add", NAMESPACE)
    if made.returncode != 0:
        return f"no network namespace may be made: {made.stderr.strip()}"
    atexit.register(run, "ip", "netns", "del", NAMESPACE)
    inside = ["ip", "netns", "exec", NAMESPACE]
    for command in [
        ["ip", "link", "add", LINK, "type", "veth", "peer", "name", "reader", "netns", NAMESPACE],
        ["ip", "addr", "add", f"{BROKER_IP}/24", "dev", LINK],
        ["ip", "link", "set", LINK, "up"],
        [*inside, "ip", "addr", "add", f"{READER_IP}/24", "dev", "reader"],
        [*inside, "ip", "link", "set", "reader", "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
    ]:
        done = run(*command)
        if done.returncode != 0:
            return f"`{' '.join(command)}`: {done.stderr.strip()}"
    return None


class VethBroker(Broker):
    """Listens on both sides: on loopback for the producer, on the veth pair for the reader."""

    def __init__(self, mode):
        super().__init__("--cores", "0", "--set", f"socket_zero_copy={mode}", "--set", "connection_stall_timeout_ms=2000")
        self.command[self.command.index("--listen") + 1] = f"0.0.0.0:{self.port}"
        self.command += ["--advertise", f"{BROKER_IP}:{self.port}"]

    def zero_copy(self):
        return {name: int(self.metric(f"{SOCKET}zero_copy_{name}_total")) for name in ["send_calls", "byte", "completed", "copied", "switched_off"]}

    def wait_for(self, holds, seconds=30):
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def reader_command(broker, *more):
    return ["ip", "netns", "exec", NAMESPACE, "kcat", "-b", f"{BROKER_IP}:{broker.port}", "-C", "-q", "-t", TOPIC, "-p", "0", "-o", "beginning",
            "-D", "", "-X", "check.crcs=true", "-X", "fetch.message.max.bytes=8000000", "-X", "socket.timeout.ms=20000", *more]


def read(broker):
    """SHA-256 of what comes out, and the broker's CPU time for it."""
    before, digest = broker.cpu_seconds(), hashlib.sha256()
    reader = subprocess.Popen(reader_command(broker, "-e"), stdout=subprocess.PIPE)
    while piece := reader.stdout.read(1 << 20):
        digest.update(piece)
    if reader.wait() != 0:
        raise RuntimeError(f"kcat exited with {reader.returncode}")
    return digest.hexdigest(), broker.cpu_seconds() - before


def write(broker, records):
    """SHA-256 of all that was written."""
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": f"{BROKER_IP}:{broker.port}", "acks": "all", "message.max.bytes": 8_000_000, "compression.type": "none",
                         "queue.buffering.max.kbytes": 100_000})
    digest, rng, failures = hashlib.sha256(), random.Random(5), []
    for _ in range(records):
        value = rng.randbytes(RECORD_BYTES)
        digest.update(value)
        while True:
            try:
                producer.produce(TOPIC, value, partition=0, on_delivery=lambda error, _: error and failures.append(str(error)))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120) or failures:
        raise RuntimeError(f"not everything was delivered: {failures[:3]}")
    return digest.hexdigest()


def reads_identical(mode, records, report):
    broker = VethBroker(mode)
    broker.start()
    wanted = write(broker, records)
    (first, _), (second, seconds) = read(broker), read(broker)
    counts, gigabytes = broker.zero_copy(), records * RECORD_BYTES / 1e9
    report.check(first == second == wanted, f"{mode}: {gigabytes * 1000:.0f} MB are read twice and identical")
    report.say(f"{mode}: {seconds / gigabytes * 1000:.0f} ms of the broker's CPU per GB; {counts}")
    return broker, counts


def die_in_the_middle(broker, report):
    for _ in range(5):
        reader = subprocess.Popen(reader_command(broker), stdout=subprocess.PIPE)
        reader.stdout.read(3_000_000)
        reader.send_signal(signal.SIGKILL)
        reader.wait()
    report.check(broker.wait_for(lambda: broker.metric("broker_memory_used_bytes") == 0), "readers that died leave no memory in use")
    # Nobody acknowledges anything any more: the kernel keeps what it was given until the connection is given up.
    reader = subprocess.Popen(reader_command(broker), stdout=subprocess.PIPE)
    reader.stdout.read(3_000_000)
    run("ip", "link", "set", LINK, "down")
    released = broker.wait_for(lambda: broker.metric("broker_memory_used_bytes") == 0)
    report.check(released, "a reader whose network is gone is given up, and leaves no memory in use")
    run("ip", "link", "set", LINK, "up")
    reader.kill()
    reader.wait()
    pending = broker.zero_copy()
    report.check(pending["send_calls"] == pending["completed"], f"the kernel has named every such send: {pending}")


def stop_under_a_reader(broker, report):
    reader = subprocess.Popen(reader_command(broker), stdout=subprocess.PIPE)
    reader.stdout.read(3_000_000)
    seconds = broker.stop()
    report.check(broker.process.returncode == 0 and seconds < 15, f"a reader in the middle does not keep the broker from stopping ({seconds:.1f} s)")
    reader.kill()
    reader.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=300)
    records = parser.parse_args().megabytes * 1_000_000 // RECORD_BYTES
    reason = connect_namespaces()
    if reason:
        print(f"skipped: {reason}")
        return 0
    report = Report("zero-copy")
    broker, counts = reads_identical("off", records, report)
    report.check(not any(counts.values()), "off: no such send")
    broker.stop()
    broker, counts = reads_identical("auto", records, report)
    report.check(counts["send_calls"] > 0, "auto: it is tried on a connection that is not a loopback one")
    report.check(not counts["copied"] or counts["switched_off"] > 0, "auto: where the kernel copies after all, it is given up")
    broker.stop()
    broker, counts = reads_identical("always", records, report)
    report.check(counts["byte"] > records * RECORD_BYTES, f"always: most bytes are sent so ({counts['byte'] / 1e6:.0f} MB)")
    die_in_the_middle(broker, report)
    stop_under_a_reader(broker, report)
    return report.close(broker)


sys.exit(main())
