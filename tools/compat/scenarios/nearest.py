"""Consumers that read from the replica in their rack (KIP-392): three brokers, a rack each, three replicas of everything, and readers of two makes, librdkafka and
Java, in the rack of one broker, under load from two producers.

That broker serves both of them as a follower; it is killed, they go on with the leaders; it comes back, and they come back to it. At the end each has read every record
once and in order, and every record that was acknowledged is there. Then the broker leads again what it has led before: a Java producer is told so by the broker that
led meanwhile (KIP-951).
usage: nearest.py [--kills N] [--rate N]
"""

import argparse
import os
import subprocess
import sys
import time
from functools import partial

from confluent_kafka import ElectionType, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import patience
from broker import Report, quiet
from cluster import Cluster
from ledger import Reader, conclude, end_load, start_producers, wait_for_load

TOPIC, PARTITIONS, REPLICAS = "nearest", 3, 3
RACKS = {1: "a", 2: "b", 3: "c"}
# The broker that is near the readers.
NEAR = 2
# librdkafka looks for a follower once a minute at most.
PATIENCE_SECONDS = 150
wait_until = partial(patience.wait_until, seconds=PATIENCE_SECONDS)
HERE = os.path.dirname(os.path.abspath(__file__))


def served(broker):
    return broker.metric("broker_follower_fetch_bytes_total")


class Follower:
    """A reader in a process of its own, and what it has read."""

    def __init__(self, name, command, folder):
        self.name, self.path = name, os.path.join(folder, f"{name}.read")
        self.process = subprocess.Popen([*command, TOPIC, str(PARTITIONS), RACKS[NEAR], self.path], stdin=subprocess.PIPE)

    def read(self):
        """Offsets by partition, in the order in which they came."""
        found = [[] for _ in range(PARTITIONS)]
        if os.path.exists(self.path):
            with open(self.path) as file:
                text = file.read()
            for line in text[:text.rfind("\n") + 1].splitlines():
                partition, offset = map(int, line.split())
                found[partition].append(offset)
        return found

    def count(self):
        return sum(map(len, self.read()))

    def end(self):
        self.process.stdin.close()
        return self.process.wait(60)


class Cast:
    """Who takes part: the brokers, the topic, producers and readers."""

    def __init__(self, rate):
        self.cluster = Cluster(REPLICAS, "--set", "replica_selector_class=org.apache.kafka.common.replica.RackAwareReplicaSelector")
        for node, broker in self.cluster.brokers.items():
            broker.command += ["--set", f"broker_rack={RACKS[node]}"]
        self.cluster.start()
        os.environ["BOOTSTRAP"] = self.cluster.bootstrap
        self.admin = quiet(AdminClient, {"bootstrap.servers": self.cluster.bootstrap, "topic.metadata.refresh.interval.ms": 1000})
        wait_until("three brokers in the metadata", lambda: len(self.admin.list_topics(timeout=10).brokers) == REPLICAS)
        topic = NewTopic(TOPIC, PARTITIONS, REPLICAS, config={"min.insync.replicas": "2"})
        self.admin.create_topics([topic])[TOPIC].result(30)
        wait_until("all replicas are in sync", self.is_in_sync)
        # What Java's producers say of the leaders that they are told.
        os.environ["COMPAT_LOGGER"] = "org.apache.kafka.clients.Metadata=debug"
        self.said = os.path.join(self.cluster.folder, "producers.log")
        with open(self.said, "wb") as said:
            self.logs, self.producers = start_producers(self.cluster.folder, TOPIC, PARTITIONS, rate, said)
        del os.environ["COMPAT_LOGGER"]
        wait_for_load(self.logs, self.producers)
        commands = {"librdkafka": [sys.executable, os.path.join(HERE, "follow.py")], "java": [os.path.join(HERE, "..", "java", "run"), "follow"]}
        self.followers = [Follower(name, command, self.cluster.folder) for name, command in commands.items()]

    def is_in_sync(self):
        topic = self.admin.list_topics(TOPIC, timeout=10).topics.get(TOPIC)
        partitions = topic.partitions if topic is not None and topic.error is None else {}
        return len(partitions) == PARTITIONS and all(len(p.isrs) == REPLICAS and p.leader >= 0 for p in partitions.values())

    def leads(self, node):
        """How many partitions the broker leads."""
        return sum(p.leader == node for p in self.admin.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions.values())

    def go_on(self, what):
        """Waits until each reader has read more."""
        before = {follower.name: follower.count() for follower in self.followers}
        for follower in self.followers:
            wait_until(f"{follower.name} reads on {what}", lambda: follower.count() > before[follower.name] + 100)

    def both_are_near(self):
        """Whether the near broker serves as much as two readers take of two thirds of the records, and more than one of them alone could."""
        near = self.cluster.brokers[NEAR]
        produced = sum(broker.metric("kafka_server_brokertopicmetrics_bytesin_total") for broker in self.cluster.brokers.values())
        served_before = served(near)
        time.sleep(1)
        more = sum(broker.metric("kafka_server_brokertopicmetrics_bytesin_total") for broker in self.cluster.brokers.values()) - produced
        followed = (PARTITIONS - self.leads(NEAR)) / PARTITIONS
        return served(near) - served_before > 1.5 * more * followed > 0

    def told_of_leaders(self):
        """How often a Java producer has heard of a leader from a broker that does not lead."""
        with open(self.said, errors="replace") as said:
            return sum("updating leader information" in line for line in said)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--rate", type=float, default=300, help="records per second of each producer")
    options = parser.parse_args()
    report, cast = Report("nearest"), Cast(options.rate)
    near = cast.cluster.brokers[NEAR]
    try:
        wait_until("both readers are served by the broker in their rack", cast.both_are_near)
        far = sum(served(broker) for node, broker in cast.cluster.brokers.items() if node != NEAR)
        report.check(far == 0, f"followers in other racks have served {far:.0f} bytes")
        for kill in range(options.kills):
            near.kill()
            cast.go_on("without the broker in its rack")
            near.start()
            wait_until("all replicas are in sync again", cast.is_in_sync)
            began = time.monotonic()
            wait_until("both readers are back at the broker in their rack", cast.both_are_near)
            report.say(f"kill {kill + 1}: both were back after {time.monotonic() - began:.0f} s; {served(near):.0f} bytes served since")
        told = cast.told_of_leaders()
        preferred = [TopicPartition(TOPIC, p) for p in range(PARTITIONS)]
        if cast.leads(NEAR) == 0:
            cast.admin.elect_leaders(ElectionType.PREFERRED, preferred).result(30)
        wait_until("the broker leads again", lambda: cast.leads(NEAR) > 0)
        wait_until("a Java producer is told of it", lambda: cast.told_of_leaders() > told)
        cast.go_on("under the preferred leaders")
    finally:
        end_load(cast.producers)
    reader = Reader(cast.cluster.bootstrap, TOPIC, PARTITIONS)
    conclude(report, cast.producers, reader, cast.logs)
    for follower in cast.followers:
        wait_until(f"{follower.name} has read everything", lambda: follower.count() >= sum(reader.positions))
        found = follower.read()
        ordered = all(offsets == list(range(end)) for offsets, end in zip(found, reader.positions))
        report.check(ordered, f"{follower.name} in rack {RACKS[NEAR]} has read {sum(map(len, found))} records, each once and in order")
        report.check(follower.end() == 0, f"{follower.name} has met no error")
    return report.close(cast.cluster)


sys.exit(main())
