"""kill -9 of the leader of a partition, again and again, in a cluster of three brokers under acks=all load from an idempotent librdkafka producer and an
idempotent Java producer; replication factor 3, min.insync.replicas 2.

After each kill producing goes on, and when the killed broker is back and in sync again: every record that was acknowledged, or that a reader has seen before, is
where it was; each producer's records are in every partition once and in order. How long the partitions of the killed broker acknowledged nothing is reported.
usage: failover.py --kills N [--seed S]
"""

import argparse
import os
import random
import sys
import time
from functools import partial

from confluent_kafka.admin import AdminClient, NewTopic

import patience
from broker import Report, quiet
from cluster import Cluster
from ledger import Reader, conclude, end_load, start_producers, verify, wait_for_load

TOPIC, PARTITIONS, REPLICAS = "failover", 3, 3
PATIENCE_SECONDS = 120
wait_until = partial(patience.wait_until, seconds=PATIENCE_SECONDS)


def partitions_of(admin):
    """The topic's partitions as the brokers describe them."""
    topic = admin.list_topics(TOPIC, timeout=10).topics.get(TOPIC)
    return topic.partitions if topic is not None and topic.error is None else {}


def is_in_sync(admin):
    partitions = partitions_of(admin)
    return len(partitions) == PARTITIONS and all(len(p.isrs) == REPLICAS and p.leader >= 0 for p in partitions.values())


class Watch:
    """When partitions were acknowledged last, by the growth of the producers' logs."""

    def __init__(self, logs):
        self.paths = [log.path for log in logs.values()]
        self.read = dict.fromkeys(self.paths, 0)
        self.partitions()

    def partitions(self):
        """Those with acknowledgements since the last call."""
        found = set()
        for path in self.paths:
            with open(path) as file:
                file.seek(self.read[path])
                text = file.read()
            text = text[:text.rfind("\n") + 1]
            self.read[path] += len(text)
            found.update(int(line.split(" ", 1)[0]) for line in text.splitlines())
        return found


def silence(watch, partitions, since):
    """Seconds from the kill until all of these partitions were acknowledged again; what was on its way to a producer then does not count."""
    time.sleep(0.05)
    watch.partitions()
    waiting = set(partitions)
    while waiting:
        if time.monotonic() - since > PATIENCE_SECONDS:
            raise RuntimeError(f"partitions {sorted(waiting)} acknowledge nothing {PATIENCE_SECONDS} s after the kill")
        waiting -= watch.partitions()
        time.sleep(0.005)
    return time.monotonic() - since


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=500, help="records per second of each producer")
    options = parser.parse_args()
    rng, report = random.Random(options.seed), Report("failover")
    report.say(f"{options.kills} kills, seed {options.seed}")
    cluster = Cluster(3)
    cluster.start()
    os.environ["BOOTSTRAP"] = cluster.bootstrap
    admin = quiet(AdminClient, {"bootstrap.servers": cluster.bootstrap, "topic.metadata.refresh.interval.ms": 1000})
    wait_until("three brokers in the metadata", lambda: len(admin.list_topics(timeout=10).brokers) == 3)
    topic = NewTopic(TOPIC, PARTITIONS, REPLICAS, config={"min.insync.replicas": "2"})
    for future in admin.create_topics([topic]).values():
        future.result(30)
    wait_until("all replicas are in sync", lambda: is_in_sync(admin))
    logs, producers = start_producers(cluster.folder, TOPIC, PARTITIONS, options.rate)
    reader, silences, acknowledged = Reader(cluster.bootstrap, TOPIC, PARTITIONS), [], 0
    try:
        wait_for_load(logs, producers)
        watch = Watch(logs)
        for kill in range(options.kills):
            time.sleep(rng.uniform(0.2, 1.5))
            described = partitions_of(admin)
            victim = described[rng.randrange(PARTITIONS)].leader
            led = [p.id for p in described.values() if p.leader == victim]
            killed = time.monotonic()
            cluster.brokers[victim].kill()
            silences.append(silence(watch, led, killed))
            cluster.brokers[victim].start()
            wait_until("all replicas are in sync again", lambda: is_in_sync(admin))
            acknowledged += verify(reader, logs)
            if reader.problems:
                report.check(False, f"after kill {kill + 1}: " + "; ".join(reader.problems[:10]))
                break
            if (kill + 1) % 10 == 0 or kill + 1 == options.kills:
                report.say(f"after kill {kill + 1}: {acknowledged} acknowledged, {sum(reader.positions)} read, all in place")
    finally:
        end_load(producers)
    conclude(report, producers, reader, logs, acknowledged)
    ordered = sorted(silences)
    if ordered:
        report.say(f"partitions without a leader acknowledged nothing for: median {ordered[len(ordered) // 2]:.2f} s, longest {ordered[-1]:.2f} s, of {len(ordered)}")
    return report.close(cluster)


sys.exit(main())
