"""A cluster of three brokers grows and shrinks under load: acks=all from an idempotent librdkafka producer and an idempotent Java producer, and a group that
reads everything; replication factor 3, min.insync.replicas 2.

A fourth broker joins. Half of the partitions are moved with brokerctl, some more with kafka-reassign-partitions, so that the fourth holds its share. Then one of the
first three is decommissioned, the fourth votes in its place, and it leaves for good. In the end every node is stopped in good order and started again, one by one. Nothing that is not retried fails; every acknowledged record is there once and in order, and the group reads all of them.
usage: scale_out.py [--rate N] [--partitions N] [--restarts N]
"""

import argparse
import json
import os
import subprocess
import sys
import threading
from functools import partial

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import patience
from broker import Report, quiet
from cluster import Cluster
from ledger import Reader, conclude, end_load, start_producers, verify, wait_for_load

TOPIC, REPLICAS, GROUP, MEMBERS = "scale-out", 3, "scale-out", 3
PATIENCE_SECONDS = 180
wait_until = partial(patience.wait_until, seconds=PATIENCE_SECONDS, pause=0.2)


class Member(threading.Thread):
    """Reads and commits. Between two assignments of a partition its offsets have no gap; errors that do not pass are noted."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.stopping, self.problems, self.count, self.next = threading.Event(), [], 0, {}
        self.consumer = quiet(Consumer, {
            "bootstrap.servers": bootstrap, "group.id": GROUP, "group.protocol": "consumer", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 1000})

    def run(self):
        self.consumer.subscribe([TOPIC], on_assign=lambda *_: self.next.clear(), on_revoke=lambda *_: self.next.clear())
        while not self.stopping.is_set():
            try:
                for message in self.consumer.consume(500, timeout=0.2):
                    self.take(message)
                if self.next:
                    offsets = [TopicPartition(TOPIC, partition, offset) for partition, offset in self.next.items()]
                    self.consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                self.note(error.args[0])
        self.consumer.close()

    def take(self, message):
        if message.error():
            return self.note(message.error())
        partition, offset = message.partition(), message.offset()
        if offset != self.next.get(partition, offset):
            self.problems.append(f"partition {partition}: offset {offset} read, {self.next[partition]} expected")
        self.next[partition] = offset + 1
        self.count += 1

    def note(self, error):
        # librdkafka's own codes (connections that broke) are below zero; a rebalance refuses commits of the generation before.
        passes = error.retriable() or error.code() < 0 or error.name() in ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID")
        if not passes:
            self.problems.append(str(error))


class Operator:
    """Whoever types brokerctl and Kafka's tools."""

    def __init__(self, cluster):
        self.cluster = cluster

    def brokerctl(self, *words):
        done = subprocess.run([os.environ["BROKERCTL_BIN"], "--bootstrap", self.cluster.bootstrap, *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"brokerctl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def describe(self):
        return json.loads(self.brokerctl("--json", "cluster", "--verbose"))

    def reassign(self, moves):
        """By kafka-reassign-partitions, which is asked until it says that all are complete."""
        plan = {"version": 1, "partitions": [{"topic": TOPIC, "partition": partition, "replicas": replicas} for partition, replicas in moves.items()]}
        path = os.path.join(self.cluster.folder, "plan.json")
        with open(path, "w") as file:
            json.dump(plan, file)
        tool = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", os.environ["KAFKA_TOOLS"] + "/*",
                "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", "--bootstrap-server", self.cluster.bootstrap, "--reassignment-json-file", path]
        begun = subprocess.run([*tool, "--execute", "--throttle", "50000000"], capture_output=True, text=True)
        if "Successfully started partition reassignment" not in begun.stdout:
            raise RuntimeError(f"kafka-reassign-partitions --execute: {begun.stdout}{begun.stderr}")

        def is_complete():
            said = subprocess.run([*tool, "--verify"], capture_output=True, text=True).stdout
            return said.count("is completed") == len(moves) and "Clearing topic-level throttles" in said

        wait_until("kafka-reassign-partitions says that all moves are complete", is_complete)


def replicas_of(described):
    """The replicas of each partition of the topic, the preferred leader first."""
    rows = [row for row in described["partitions"] if row["topic"] == TOPIC]
    return {row["partition"]: [replica["broker"] for replica in row["replicas"]] for row in rows}


def is_well(described, brokers):
    counts = described["partition_counts"]
    up = sorted(broker["id"] for broker in described["brokers"] if not broker["fenced"])
    return up == brokers and not any(counts[name] for name in ("offline", "under_replicated", "moving"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=500, help="records per second of each producer")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--restarts", type=int, default=1, help="how often all nodes are restarted at the end")
    options = parser.parse_args()
    report, partitions = Report("scale-out"), options.partitions
    cluster = Cluster(3, "--set", "offsets.topic.replication.factor=3", "--set", "offsets.topic.num.partitions=6")
    cluster.start()
    os.environ["BOOTSTRAP"] = cluster.bootstrap
    operator = Operator(cluster)
    admin = quiet(AdminClient, {"bootstrap.servers": cluster.bootstrap})
    wait_until("three brokers", lambda: is_well(operator.describe(), [1, 2, 3]))
    for future in admin.create_topics([NewTopic(TOPIC, partitions, REPLICAS, config={"min.insync.replicas": "2"})]).values():
        future.result(30)
    logs, producers = start_producers(cluster.folder, TOPIC, partitions, options.rate)
    members = [Member(cluster.bootstrap) for _ in range(MEMBERS)]
    reader, acknowledged = Reader(cluster.bootstrap, TOPIC, partitions), 0

    def look(after):
        nonlocal acknowledged
        acknowledged += verify(reader, logs)
        problems = [*reader.problems, *(problem for member in members for problem in member.problems)]
        report.check(not problems, "; ".join([f"after {after}: {acknowledged} acknowledged records are there once and in order", *problems[:10]]))
        return not problems

    def steps():
        wait_for_load(logs, producers)
        for member in members:
            member.start()
        cluster.join(4)
        wait_until("four brokers", lambda: is_well(operator.describe(), [1, 2, 3, 4]))
        yield "a fourth broker has joined"
        moved = range(0, partitions, 2)
        for place, partition in enumerate(moved):
            others = [broker for broker in (1, 2, 3) if broker != 1 + place % 3]
            operator.brokerctl("partition", "move", f"{TOPIC}:{partition}", "--to", ",".join(map(str, [4, *others])))
        yield f"{len(moved)} partitions were moved with brokerctl"
        now = replicas_of(operator.describe())
        operator.reassign({partition: [now[partition][1], now[partition][2], 4] for partition in range(1, partitions, 4)})
        yield "others were moved with kafka-reassign-partitions"
        described = operator.describe()
        leaving = next(node for node in (3, 2, 1) if node != described["quorum"]["leader"])
        said = operator.brokerctl("broker", "decommission", str(leaving), "--execute")
        report.check(f"broker {leaving} holds nothing any more" in said, f"broker {leaving} is decommissioned")
        operator.brokerctl("quorum", "add", "4")
        operator.brokerctl("quorum", "remove", str(leaving))
        stays = [node for node in (1, 2, 3, 4) if node != leaving]
        wait_until("the fourth votes in its place", lambda: voters(operator) == stays)
        cluster.brokers[leaving].stop()
        wait_until("it is unregistered", lambda: unregistered(operator, leaving))
        wait_until("the others are well", lambda: is_well(operator.describe(), stays))
        yield f"broker {leaving} has left"
        for restart in range(options.restarts):
            for node in stays:
                cluster.brokers[node].stop()
                cluster.brokers[node].start()
                wait_until(f"all is well after the restart of {node}", lambda: is_well(operator.describe(), stays))
                yield f"the restart of node {node}"
            operator.brokerctl("partition", "elect")

    try:
        for after in steps():
            if not look(after):
                break
    finally:
        end_load(producers)
    conclude(report, producers, reader, logs, acknowledged)

    def committed():
        offsets = quiet(Consumer, {"bootstrap.servers": cluster.bootstrap, "group.id": GROUP})
        found = offsets.committed([TopicPartition(TOPIC, partition) for partition in range(partitions)], timeout=30)
        offsets.close()
        return [max(place.offset, 0) for place in found]

    wait_until("the group has read everything", lambda: committed() == reader.positions)
    report.check(True, f"the group has read everything: {sum(member.count for member in members)} records, {sum(reader.positions)} in the log")
    for member in members:
        member.stopping.set()
    for member in members:
        member.join(30)
    report.check(not any(member.problems for member in members), "no member of the group met an error that does not pass")
    return report.close(cluster)


def unregistered(operator, broker):
    try:
        operator.brokerctl("broker", "unregister", str(broker))
        return True
    except RuntimeError:
        return False


def voters(operator):
    return sorted(member["id"] for member in operator.describe()["quorum"]["members"] if member["voter"])


sys.exit(main())
