"""What producers that run beside a scenario were told (load.py, and Load of the Java client), compared with what a reader finds."""

import os
import subprocess
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from broker import quiet


def consumer(bootstrap, group="no-group"):
    return quiet(Consumer, {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error",
                     "check.crcs": True, "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 200,
                     "topic.metadata.refresh.interval.ms": 1000})


# A leader has moved, or is about to: whoever asks again hears of the next one.
MOVED = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
         KafkaError.OFFSET_NOT_AVAILABLE)


def end_of(client, partition, deadline):
    """Where the partition ends, from whoever leads it, as soon as somebody does."""
    while True:
        try:
            return client.get_watermark_offsets(partition, timeout=10)[1]
        except KafkaException as error:
            passes = error.args[0].retriable() or error.args[0].code() < 0 or error.args[0].code() in MOVED
            if time.monotonic() > deadline or not passes:
                raise
            time.sleep(0.1)


def committed(bootstrap, group, topic):
    """The group's offsets in the topic, asked for until the coordinator answers. By a consumer that does not join: when a coordinator has moved, librdkafka looks
    for it through the client's consumer group, of which an admin client has none, and the process dies of SIGSEGV (rd_kafka_handle_OffsetFetch, 2.x)."""
    deadline = time.monotonic() + 120
    asker = consumer(bootstrap, group)
    try:
        while True:
            try:
                known = asker.list_topics(topic, timeout=10).topics[topic]
                if known.error is not None:
                    raise KafkaException(known.error)
                found = asker.committed([TopicPartition(topic, partition) for partition in known.partitions], timeout=10)
                return {p.partition: p.offset for p in found if p.error is None and p.offset >= 0}
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    finally:
        asker.close()


class Reader:
    """What has been read so far: every partition from its start, in order, and which record is at which offset. What is read once more has to be the same."""

    def __init__(self, bootstrap, topic, partitions):
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.positions = [0] * partitions
        self.at = [dict() for _ in range(partitions)]
        self.next_sequence = {}
        self.problems = []

    def catch_up(self):
        """Reads on to where every partition ends now."""
        client = consumer(self.bootstrap)
        client.assign([TopicPartition(self.topic, p, self.positions[p]) for p in range(self.partitions)])
        deadline = time.monotonic() + 120
        ends = [end_of(client, TopicPartition(self.topic, p), deadline) for p in range(self.partitions)]
        for partition, known in enumerate(map(len, self.at)):
            # A leader that has just been elected may take a moment to know how much is committed.
            patience = time.monotonic() + 15
            while ends[partition] < known and time.monotonic() < patience:
                time.sleep(0.1)
                ends[partition] = end_of(client, TopicPartition(self.topic, partition), deadline)
            if ends[partition] < known:
                self.problems.append(f"partition {partition}: ends at {ends[partition]}, but {known} records were read before")
        while any(position < end for position, end in zip(self.positions, ends)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not at {ends}, the ends of all partitions, within 120 s: {self.positions}")
            for message in client.consume(5000, timeout=0.5):
                if message.error() is None:
                    self._take(message)
                elif message.error().code() not in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, *MOVED):
                    raise KafkaException(message.error())
        client.close()

    def go_back(self, positions):
        """What stands from these offsets on is read once more, and compared."""
        self.positions = list(positions)

    def _take(self, message):
        partition, offset = message.partition(), message.offset()
        name, said_partition, sequence, _ = message.value().split(b" ", 3)
        sequence = int(sequence)
        if offset != self.positions[partition]:
            self.problems.append(f"partition {partition}: offset {offset} follows {self.positions[partition] - 1}")
        if int(said_partition) != partition:
            self.problems.append(f"partition {partition} offset {offset}: a record of partition {said_partition}")
        self.positions[partition] = offset + 1
        if offset in self.at[partition]:
            if self.at[partition][offset] != (name, sequence):
                was, now = self.at[partition][offset], (name, sequence)
                self.problems.append(f"partition {partition} offset {offset}: {was} was read before, {now} is there now")
            return
        wanted = self.next_sequence.get((name, partition), 0)
        if sequence != wanted:
            self.problems.append(f"partition {partition} offset {offset}: {name.decode()}'s record {sequence}, {wanted} expected")
        self.next_sequence[name, partition] = sequence + 1
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


def start_producers(folder, topic, partitions, rate, errors=None):
    """An idempotent librdkafka producer and an idempotent Java producer, and the logs of what they are told. They end when their standard input does.
    `errors` is a file for what they say."""
    here = os.path.dirname(os.path.abspath(__file__))
    logs = {name: AckLog(name, os.path.join(folder, f"{name}.acks")) for name in ("librdkafka", "java")}
    commands = {"librdkafka": [sys.executable, os.path.join(here, "load.py")], "java": [os.path.join(here, "..", "java", "run"), "load"]}
    producers = {name: subprocess.Popen([*command, name, topic, str(partitions), str(rate), logs[name].path], stdin=subprocess.PIPE, stderr=errors)
                 for name, command in commands.items()}
    return logs, producers


def end_load(producers):
    """Tells the producers that this was all."""
    for process in producers.values():
        process.stdin.close()


def conclude(report, producers, reader, logs, acknowledged=0):
    """After the load: everybody delivered everything, and what was acknowledged, `acknowledged` before and the rest, is all that is there, once and in order."""
    for name, process in producers.items():
        report.check(process.wait(180) == 0, f"{name} delivered everything it sent")
    acknowledged += verify(reader, logs)
    report.check(not reader.problems, f"{acknowledged} acknowledged records are there once and in order" + "".join(f"; {p}" for p in reader.problems[:10]))
    report.check(acknowledged == sum(reader.positions), f"{sum(reader.positions)} records in the log, {acknowledged} were acknowledged")
