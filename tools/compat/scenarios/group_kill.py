"""kill -9 at random moments while groups commit and rebalance.

Half of the groups use the classic protocol, half the consumer protocol (KIP-848). Members come and go all the time, so that most kills meet a rebalance.
Every commit that was acknowledged is remembered. After each restart the committed offset of every partition is at least the last acknowledged one and
at most the last that was tried; at the end each partition of every group has one owner, and everything that was produced is read and committed.
usage: group_kill.py --kills N [--seed S]
"""

import argparse
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Report, quiet
from cluster import REPLICATION_FACTOR, one_or_several
from ledger import committed

TOPIC, PARTITIONS = "group-kill", 8
GROUPS = {"classic-a": "classic", "classic-b": "classic", "consumer-a": "consumer", "consumer-b": "consumer"}
MEMBERS = 3
DEADLINE = 120


def client_config(bootstrap):
    return {"bootstrap.servers": bootstrap, "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 1000}


class Ledger:
    """What one group has been told of each partition: the last offset acknowledged, and the largest that was tried."""

    def __init__(self):
        self.lock, self.acknowledged, self.tried, self.count = threading.Lock(), {}, {}, 0

    def trying(self, offsets):
        with self.lock:
            for partition, offset in offsets.items():
                self.tried[partition] = max(self.tried.get(partition, -1), offset)

    def done(self, offsets):
        with self.lock:
            self.count += 1
            for partition, offset in offsets.items():
                self.acknowledged[partition] = max(self.acknowledged.get(partition, -1), offset)

    def snapshot(self):
        with self.lock:
            return dict(self.acknowledged)

    def problems(self, acknowledged, have):
        """What is wrong with the offsets that are there: below one that was acknowledged before, or above all that were tried."""
        with self.lock:
            tried = dict(self.tried)
        return [f"partition {p}: {offset} was acknowledged, {tried[p]} tried, {have.get(p, -1)} is there"
                for p, offset in acknowledged.items() if not offset <= have.get(p, -1) <= tried[p]]


class Member(threading.Thread):
    """Reads and commits what it has read, synchronously, until it is told to stop. Owners of one partition hand it on: its offsets only grow."""

    def __init__(self, bootstrap, group, ledger):
        super().__init__(daemon=True)
        self.group, self.ledger, self.stopping, self.owned = group, ledger, threading.Event(), set()
        config = {**client_config(bootstrap), "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50,
                  "group.protocol": GROUPS[group]}
        if GROUPS[group] == "classic":
            config |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "partition.assignment.strategy": "cooperative-sticky"}
        self.consumer = quiet(Consumer, config)

    def run(self):
        self.consumer.subscribe([TOPIC])
        while not self.stopping.is_set():
            try:
                messages = [m for m in self.consumer.consume(50, timeout=0.1) if not m.error()]
                self.owned = {p.partition for p in self.consumer.assignment()}
                offsets = {}
                for message in messages:
                    offsets[message.partition()] = message.offset() + 1
                if offsets:
                    self.commit(offsets)
            except KafkaException:
                time.sleep(0.05)
        self.owned = set()
        self.consumer.close()

    def commit(self, offsets):
        self.ledger.trying(offsets)
        try:
            results = self.consumer.commit(offsets=[TopicPartition(TOPIC, p, o) for p, o in offsets.items()], asynchronous=False)
        except KafkaException:
            return
        # Each partition says for itself whether it was taken.
        self.ledger.done({r.partition: r.offset for r in results if r.error is None})


class Feeder(threading.Thread):
    """Keeps records coming, so that there is something to commit."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        self.stopping, self.delivered = threading.Event(), 0
        self.producer = quiet(Producer, {**client_config(bootstrap), "linger.ms": 5, "enable.idempotence": True, "message.timeout.ms": DEADLINE * 1000})

    def run(self):
        n = 0
        while not self.stopping.is_set():
            for _ in range(PARTITIONS):
                self.producer.produce(TOPIC, value=str(n).encode(), partition=n % PARTITIONS, on_delivery=self.took)
                n += 1
            self.producer.poll(0.01)
        self.producer.flush(DEADLINE)

    def took(self, error, _message):
        self.delivered += error is None


def settled(members):
    """Whether every partition has one owner."""
    owned = [p for member in members for p in member.owned]
    return sorted(owned) == list(range(PARTITIONS))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    rng, report = random.Random(options.seed), Report("group-kill")
    report.say(f"{options.kills} kills, seed {options.seed}")
    broker = one_or_several("--set", "group.initial.rebalance.delay.ms=100")
    broker.start()
    admin = quiet(AdminClient, client_config(broker.bootstrap))
    for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, REPLICATION_FACTOR)]).values():
        future.result(30)
    feeder = Feeder(broker.bootstrap)
    feeder.start()
    ledgers = {group: Ledger() for group in GROUPS}
    members = {group: [Member(broker.bootstrap, group, ledgers[group]) for _ in range(MEMBERS)] for group in GROUPS}
    leaving = []
    for group in GROUPS:
        for member in members[group]:
            member.start()
    wait(lambda: all(ledger.count > 0 for ledger in ledgers.values()), "every group commits")
    restarts = []
    for kill in range(options.kills):
        # One member goes and another comes in each group, so that the kill meets rebalances.
        for group in GROUPS:
            gone = members[group].pop(rng.randrange(MEMBERS))
            gone.stopping.set()
            leaving.append(gone)
            new = Member(broker.bootstrap, group, ledgers[group])
            new.start()
            members[group].append(new)
        time.sleep(rng.choice([rng.uniform(0, 0.1), rng.uniform(0.1, 1), rng.uniform(1, 3)]))
        broker.kill()
        restarts.append(broker.start())
        for group, ledger in ledgers.items():
            before = ledger.snapshot()
            problems = ledger.problems(before, committed(broker.bootstrap, group, TOPIC))
            if not report.check(not problems, "; ".join([f"after kill {kill + 1}: {group} has its offsets", *problems])):
                return report.close(broker)
    wait(lambda: all(settled(members[group]) for group in GROUPS), "every partition of every group has one owner")
    report.check(all(settled(members[group]) for group in GROUPS), "every group has settled: each partition is owned once")
    feeder.stopping.set()
    feeder.join(DEADLINE)
    wait(lambda: all(sum(committed(broker.bootstrap, group, TOPIC).values()) == feeder.delivered for group in GROUPS), "everything is read and committed")
    for group, ledger in ledgers.items():
        have = committed(broker.bootstrap, group, TOPIC)
        report.check(sum(have.values()) == feeder.delivered, f"{group} has read all of {feeder.delivered} records; {ledger.count} commits")
    for member in [m for group in GROUPS for m in members[group]] + leaving:
        member.stopping.set()
    for member in [m for group in GROUPS for m in members[group]] + leaving:
        member.join(30)
    final = {group: committed(broker.bootstrap, group, TOPIC) for group in GROUPS}
    broker.kill()
    broker.start()
    report.check({group: committed(broker.bootstrap, group, TOPIC) for group in GROUPS} == final, "a last kill, and the offsets are the same")
    ordered = sorted(restarts)
    report.say(f"restart after kill -9: median {ordered[len(ordered) // 2] * 1000:.0f} ms, largest {ordered[-1] * 1000:.0f} ms")
    return report.close(broker)


def wait(holds, what):
    deadline = time.monotonic() + DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            print(f"   group-kill: not within {DEADLINE} s: {what}", flush=True)
            return
        time.sleep(0.1)


sys.exit(main())
