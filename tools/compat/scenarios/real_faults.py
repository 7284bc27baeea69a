"""Real faults, one after the other, in a cluster of three brokers under load: idempotent producers of librdkafka and Java, and consumer groups of both that commit.

Each fault is followed by a check: nobody has ended or panicked, all replicas are in sync again, every acknowledged record is in the log once and in order, what a
reader has seen is still there, groups have their offsets and go on from them, and no client was told anything that it could not get over. How long partitions
acknowledged nothing is reported. In the end the checker itself is checked: with durability = "write" a loss of power of all brokers has to be noticed.
usage: real_faults.py [--faults N] [--seed N] [--rate 200] [--only NAME[,NAME...]] [--prove-only]   (in namespaces of its own: see real-faults)
"""

import argparse
import os
import random
import subprocess
import sys
import time
from functools import partial

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

import patience
from broker import Report, last_lines, quiet
from faults import catalogue, groups
from faults.node import FaultyCluster
from faults.silence import Silence
from ledger import Reader, start_producers, verify, wait_for_load

TOPIC, PARTITIONS, REPLICAS = "faults", 6, 3
# The Java producer has one request in flight. With several it may send new batches to a partition's new leader while older ones, which that leader has from replication, wait
# for the old leader's answer; if more than the five that a broker remembers follow, the retry of the older ones is out of order for ever, with Apache Kafka too.
os.environ["LOAD_IN_FLIGHT"] = "1"
os.environ["LOAD_DEBUG"] = "eos"
PATIENCE_SECONDS = 120
wait_until = partial(patience.wait_until, seconds=PATIENCE_SECONDS)


class Load:
    """A cluster with a topic, and clients at work."""

    def __init__(self, options, *arguments, network=None, with_groups=True):
        self.cluster, self.lagging = FaultyCluster(*arguments, network=network), []
        self.cluster.start()
        os.environ["BOOTSTRAP"] = self.cluster.bootstrap
        self.admin = quiet(AdminClient, {"bootstrap.servers": self.cluster.bootstrap, "topic.metadata.refresh.interval.ms": 1000, "socket.timeout.ms": 10_000})
        wait_until("three brokers in the metadata", lambda: len(self.admin.list_topics(timeout=10).brokers) == REPLICAS)
        config = {"min.insync.replicas": "2", "segment.bytes": str(4 << 20)}
        for future in self.admin.create_topics([NewTopic(TOPIC, PARTITIONS, REPLICAS, config=config)]).values():
            future.result(30)
        wait_until("all replicas are in sync", self.is_in_sync)
        folder = self.cluster.folder
        self.said_path = os.path.join(folder, "producers.said")
        with open(self.said_path, "w") as said:
            self.logs, self.producers = start_producers(folder, TOPIC, PARTITIONS, options.rate, said)
        self.groups = groups.start(folder, TOPIC) if with_groups else []
        self.reader, self.acknowledged = Reader(self.cluster.bootstrap, TOPIC, PARTITIONS), 0
        wait_for_load(self.logs, self.producers)

    def is_in_sync(self):
        """Twice in a row: a broker that was cut off answers from what it knew before until it has heard the news."""
        if not self._describes_all_in_sync():
            return False
        time.sleep(0.5)
        return self._describes_all_in_sync()

    def _describes_all_in_sync(self):
        try:
            found = self.admin.list_topics(timeout=10).topics
        except KafkaException:
            return False
        ours = [topic for name, topic in found.items() if name in (TOPIC, "__consumer_offsets")]
        partitions = [(f"{topic.topic}-{p.id}", p) for topic in ours for p in topic.partitions.values()]
        self.lagging = [f"{name} (leader {p.leader}, in sync {p.isrs})" for name, p in partitions if len(p.isrs) != REPLICAS or p.leader < 0]
        return len(partitions) >= PARTITIONS and not self.lagging

    def problems(self, before):
        """What is wrong now. What stood in the log before the last check is read once more."""
        self.reader.go_back(before)
        self.acknowledged += verify(self.reader, self.logs)
        for group in self.groups:
            group.check(self.cluster.bootstrap, self.reader.at)
        return self.reader.problems + [p for group in self.groups for p in group.problems]

    def ended(self):
        return [f"{name} has ended with {p.returncode}" for name, p in self.producers.items() if p.poll() is not None]

    def last_words(self, lines=60):
        """Of the producers: what librdkafka thinks of its producer id and of batches that did not arrive, among other things."""
        return last_lines(self.said_path, lines)

    def stop_producers(self):
        for process in self.producers.values():
            process.stdin.close()
        return {name: process.wait(180) for name, process in self.producers.items()}


def strike(load, fault, silence, rng, report):
    """One fault, until all replicas are in sync again. Whether everything went on as it should."""
    name, cluster = catalogue.name_of(fault), load.cluster
    alive = set(cluster.alive())
    silence.begin()
    started = time.monotonic()
    with fault(cluster, rng) as what:
        lasting = rng.uniform(*catalogue.HOLD[fault])
        time.sleep(lasting)
        held = time.monotonic()
    healed = time.monotonic()
    dead = alive - set(cluster.alive())
    if not report.check(not dead, f"{name} ({what}): every broker still runs" + "".join(f"; node {node} has ended" for node in dead)):
        return None
    wait_until(lambda: f"all replicas are in sync again after: {name} ({what}): {load.lagging}", load.is_in_sync)
    in_sync = time.monotonic()
    wait_until(lambda: f"acknowledgements after {name} ({what}) for {silence.unheard_since(healed)}", lambda: not silence.unheard_since(healed))
    quiet_for = silence.end()
    report.say(f"{name} ({what}) for {held - started:.1f} s: partitions acknowledged nothing for {min(quiet_for):.1f} to {max(quiet_for):.1f} s; "
               f"in sync {in_sync - healed:.1f} s after it was over")
    return max(quiet_for)


def torment(load, options, report):
    """All faults of the plan, each with its check, until something is wrong."""
    rng = random.Random(options.seed)
    chosen = [catalogue.by_name(name) for name in options.only.split(",")] if options.only else None
    plan = chosen or (catalogue.drawn(rng, options.faults) if options.faults else catalogue.each_once(rng))
    report.say(f"seed {options.seed}, {len(plan)} faults")
    silence = Silence(load.logs, PARTITIONS)
    try:
        silences = strike_all(load, plan, silence, rng, report)
    finally:
        silence.stop()
    if not report.failed:
        finish(load, report)
    for name, longest in sorted(silences.items()):
        report.say(f"{name}: longest silence of a partition {', '.join(f'{s:.1f}' for s in longest)} s")


def strike_all(load, plan, silence, rng, report):
    """The longest silence of a partition for each fault, by its name."""
    silences, before = {}, [0] * PARTITIONS
    for number, fault in enumerate(plan, 1):
        time.sleep(rng.uniform(0.5, 2))
        longest = strike(load, fault, silence, rng, report)
        checked = list(load.reader.positions)
        problems = load.problems(before) + load.ended()
        before = checked
        report.check(not problems, f"{number}: {load.acknowledged} acknowledged, {sum(load.reader.positions)} read" + "".join(f"; {p}" for p in problems[:10]))
        if problems or longest is None:
            break
        silences.setdefault(catalogue.name_of(fault), []).append(longest)
    return silences


def finish(load, report):
    """The producers end, the groups read the rest, and everything is compared once more."""
    for name, status in load.stop_producers().items():
        report.check(status == 0, f"{name} delivered everything it sent")
    problems = load.problems([0] * PARTITIONS)
    ends = load.reader.positions
    report.check(not problems, f"{load.acknowledged} acknowledged records are there once and in order, read from the start once more"
                 + "".join(f"; {p}" for p in problems[:10]))
    report.check(load.acknowledged == sum(ends), f"{sum(ends)} records in the log, {load.acknowledged} were acknowledged")
    for group in load.groups:
        wait_until(f"{group.name} has read and committed everything", lambda group=group: group.has_everything(load.cluster.bootstrap, ends))
        group.check(load.cluster.bootstrap, load.reader.at)
        status, missing = group.leave(), group.missing(ends)
        report.check(status == 0 and not group.problems and missing == 0,
                     f"{group.name} has read everything, with {group.commits} commits; {missing} records missing" + "".join(f"; {p}" for p in group.problems[:10]))


def prove(options, report, network):
    """Brokers that acknowledge before they sync lose power together: the checker has to see what is gone."""
    load = Load(options, "--set", "durability=write", network=network, with_groups=False)
    time.sleep(3)
    load.acknowledged += verify(load.reader, load.logs)
    time.sleep(0.5)
    lost = catalogue.power_off_all(load.cluster, lambda: None)
    for process in load.producers.values():
        process.kill()
        process.wait()
    load.cluster.restart(list(load.cluster.brokers))
    wait_until("all replicas are in sync again", load.is_in_sync)
    problems = load.problems([0] * PARTITIONS)
    gone = [p for p in problems if "is not there" in p]
    seen = [p for p in problems if "were read before" in p or "was read before" in p]
    report.check(gone and seen, f"a cluster that acknowledges before it syncs, and loses power ({'; '.join(lost)}), is found out: {len(gone)} acknowledged records are gone, "
                 f"and so is what was read: {seen[:1]}")
    return load


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--faults", type=int, help="so many, drawn by chance; without it every fault once")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--rate", type=float, default=200, help="records per second of each producer")
    parser.add_argument("--only", help="these faults, in this order")
    parser.add_argument("--prove-only", action="store_true", help="only that the checker sees a loss")
    options = parser.parse_args()
    report, load, network = Report("real-faults"), None, None
    if not options.prove_only:
        load = Load(options)
        network = load.cluster.network
        try:
            torment(load, options, report)
        except (RuntimeError, KafkaException, subprocess.TimeoutExpired) as failure:
            report.check(False, failure)
        for broker in load.cluster.brokers.values():
            broker.end()
        report.check(not load.cluster.panicked(), "no panic in a broker's log")
        if report.failed:
            print(f"producers:\n{load.last_words()}", flush=True)
    if report.failed == 0:
        load = prove(options, report, network)
    return report.close(load.cluster)


sys.exit(main())
