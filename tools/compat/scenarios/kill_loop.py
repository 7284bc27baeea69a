"""kill -9 at random moments under acks=all load from an idempotent librdkafka producer and an idempotent Java producer.

After each restart: every record that was acknowledged, or that a reader has seen before, is where it was; each producer's
records are in every partition once and in order. At the end everything that was sent is there.
usage: kill_loop.py --kills N [--seed S]
"""

import argparse
import os
import random
import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker, Report, quiet

TOPIC, PARTITIONS = "kill-loop", 4


def consumer(bootstrap):
    return quiet(Consumer, {"bootstrap.servers": bootstrap, "group.id": "no-group", "enable.auto.commit": False, "auto.offset.reset": "error",
                     "enable.partition.eof": True, "check.crcs": True, "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 200,
                     "topic.metadata.refresh.interval.ms": 1000})


class Reader:
    """What has been read so far: every partition from its start, in order, and which record is at which offset."""

    def __init__(self, bootstrap, report):
        self.bootstrap, self.report = bootstrap, report
        self.positions = [0] * PARTITIONS
        self.at = [dict() for _ in range(PARTITIONS)]
        self.next_sequence = {}
        self.problems = []

    def catch_up(self):
        """Reads on to the end of every partition as it is now."""
        client = consumer(self.bootstrap)
        client.assign([TopicPartition(TOPIC, p, self.positions[p]) for p in range(PARTITIONS)])
        at_end, deadline = set(), time.monotonic() + 120
        while len(at_end) < PARTITIONS:
            if time.monotonic() > deadline:
                raise RuntimeError(f"not at the end of all partitions within 120 s: {self.positions}")
            for message in client.consume(5000, timeout=0.5):
                if message.error():
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        at_end.add(message.partition())
                    elif message.error().code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                        raise KafkaException(message.error())
                    continue
                self._take(message)
        client.close()

    def _take(self, message):
        partition, offset = message.partition(), message.offset()
        name, said_partition, sequence, _ = message.value().split(b" ", 3)
        sequence = int(sequence)
        if offset != self.positions[partition]:
            self.problems.append(f"partition {partition}: offset {offset} follows {self.positions[partition] - 1}")
        if int(said_partition) != partition:
            self.problems.append(f"partition {partition} offset {offset}: a record of partition {said_partition}")
        wanted = self.next_sequence.get((name, partition), 0)
        if sequence != wanted:
            self.problems.append(f"partition {partition} offset {offset}: {name.decode()}'s record {sequence}, {wanted} expected")
        self.next_sequence[name, partition] = sequence + 1
        self.positions[partition] = offset + 1
        self.at[partition][offset] = (name, sequence)


class AckLog:
    def __init__(self, name, path):
        self.name, self.path, self.read = name.encode(), path, 0

    def new_lines(self):
        """Complete lines since the last call."""
        if not os.path.exists(self.path):
            return []
        with open(self.path) as file:
            file.seek(self.read)
            text = file.read()
        text = text[:text.rfind("\n") + 1]
        self.read += len(text)
        return [tuple(map(int, line.split())) for line in text.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=2000, help="records per second of each producer")
    parser.add_argument("--first-after", type=float, default=3, help="seconds before the first kill")
    options = parser.parse_args()
    rng, report = random.Random(options.seed), Report("kill-loop")
    report.say(f"{options.kills} kills, seed {options.seed}")
    broker = Broker()
    broker.start()
    os.environ["BOOTSTRAP"] = broker.bootstrap
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)]).values():
        future.result(30)
    del admin
    here = os.path.dirname(os.path.abspath(__file__))
    logs = {name: AckLog(name, os.path.join(broker.folder, f"{name}.acks")) for name in ("librdkafka", "java")}
    arguments = lambda name: [name, TOPIC, str(PARTITIONS), str(options.rate), logs[name].path]
    producers = {
        "librdkafka": subprocess.Popen([sys.executable, os.path.join(here, "load.py"), *arguments("librdkafka")], stdin=subprocess.PIPE),
        "java": subprocess.Popen([os.path.join(here, "..", "java", "run"), "load", *arguments("java")], stdin=subprocess.PIPE),
    }
    reader, restarts, acknowledged = Reader(broker.bootstrap, report), [], 0
    try:
        wait_for_load(logs, producers)
        time.sleep(options.first_after)
        for kill in range(options.kills):
            # Most often in the middle of things, sometimes right after a restart.
            time.sleep(rng.choice([rng.uniform(0, 0.05), rng.uniform(0.05, 0.5), rng.uniform(0.5, 1.5)]))
            broker.kill()
            restarts.append(broker.start())
            acknowledged += verify(reader, logs)
            if reader.problems:
                report.check(False, f"after kill {kill + 1}: " + "; ".join(reader.problems[:10]))
                break
            if (kill + 1) % 10 == 0 or kill + 1 == options.kills:
                report.say(f"after kill {kill + 1}: {acknowledged} acknowledged, {sum(reader.positions)} read, all in place")
    finally:
        for process in producers.values():
            process.stdin.close()
    for name, process in producers.items():
        report.check(process.wait(180) == 0, f"{name} delivered everything it sent")
    acknowledged += verify(reader, logs)
    report.check(not reader.problems, f"{acknowledged} acknowledged records are there once and in order" + "".join(f"; {p}" for p in reader.problems[:10]))
    report.check(acknowledged == sum(reader.positions), f"{sum(reader.positions)} records in the log, {acknowledged} were acknowledged")
    again = Reader(broker.bootstrap, report)
    broker.kill()
    broker.start()
    again.catch_up()
    report.check(again.at == reader.at and not again.problems, "a last kill, and everything read again from the start is the same")
    ordered = sorted(restarts)
    if ordered:
        report.say(f"restart after kill -9: median {ordered[len(ordered) // 2] * 1000:.0f} ms, largest {ordered[-1] * 1000:.0f} ms, of {len(ordered)}")
    return report.close(broker)


def wait_for_load(logs, producers):
    deadline = time.monotonic() + 120
    while not all(os.path.exists(log.path) and os.path.getsize(log.path) > 0 for log in logs.values()):
        ended = [name for name, process in producers.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"no load: ended early: {ended}")
        time.sleep(0.05)


def verify(reader, logs):
    """Reads on, then looks every acknowledgement up that had arrived before; says how many these were."""
    arrived = {name: log.new_lines() for name, log in logs.items()}
    reader.catch_up()
    for name, lines in arrived.items():
        for partition, sequence, offset in lines:
            if reader.at[partition].get(offset) != (name.encode(), sequence):
                reader.problems.append(f"{name}'s record {sequence}, acknowledged at {partition}:{offset}, is not there but {reader.at[partition].get(offset)}")
    return sum(map(len, arrived.values()))


sys.exit(main())
