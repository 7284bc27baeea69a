"""N topics with one partition, then one topic with M partitions: creation, restart after kill -9, memory, idle CPU, and all work.

usage: many_partitions.py [--topics 1000] [--partitions 5000]
"""

import argparse
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Report, quiet
from cluster import REPLICATION_FACTOR, one_or_several

BATCH = 100
IDLE_SECONDS = 10


def create(broker, topics):
    """Seconds to create them, a hundred per request."""
    admin, started = quiet(AdminClient, {"bootstrap.servers": broker.bootstrap}), time.monotonic()
    for first in range(0, len(topics), BATCH):
        for future in admin.create_topics(topics[first:first + BATCH], operation_timeout=60, request_timeout=120).values():
            future.result(120)
    return time.monotonic() - started


def write(broker, places):
    """One record into each (topic, partition), all acknowledged; seconds."""
    producer, failed, started = quiet(Producer, {"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 50}), [], time.monotonic()
    for topic, partition in places:
        producer.produce(topic, f"{topic}/{partition}".encode(), partition=partition, on_delivery=lambda error, _: failed.append(error) if error else None)
        producer.poll(0)
    if producer.flush(120) or failed:
        raise RuntimeError(f"not everything was delivered: {failed[:3]}")
    return time.monotonic() - started


def read(broker, places, records):
    """Reads every place to its end: how many of them hold exactly their own record, so many times."""
    consumer = quiet(Consumer, {"bootstrap.servers": broker.bootstrap, "group.id": "no-group", "enable.auto.commit": False, "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in places])
    counts, total, deadline = {}, 0, time.monotonic() + 120
    while total < records * len(places) and time.monotonic() < deadline:
        for message in consumer.consume(5000, timeout=0.5):
            if message.error():
                raise KafkaException(message.error())
            place = message.topic(), message.partition()
            if message.value() == f"{place[0]}/{place[1]}".encode() and message.offset() == counts.get(place, 0):
                counts[place] = counts.get(place, 0) + 1
            total += 1
    consumer.close()
    return sum(counts.get(place) == records for place in places)


def idle(broker, report, what):
    # Work that is still being finished is not idling.
    time.sleep(2)
    before = broker.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    share = (broker.cpu_seconds() - before) / IDLE_SECONDS * 100
    report.say(f"{what}: {broker.rss_bytes() / 1e6:.0f} MB resident, {share:.2f} % of a core when idle")


def stage(broker, report, what, topics, places):
    report.say(f"{what}: created in {create(broker, topics):.2f} s")
    report.say(f"{what}: one record into each in {write(broker, places):.2f} s")
    idle(broker, report, what)
    broker.kill()
    report.say(f"{what}: restarted after kill -9 in {broker.start() * 1000:.0f} ms")
    report.say(f"{what}: one more record into each in {write(broker, places):.2f} s")
    good = read(broker, places, 2)
    report.check(good == len(places), f"{what}: {good} of {len(places)} partitions hold their two records after kill -9")
    idle(broker, report, f"{what}, after the restart")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--topics", type=int, default=1000)
    parser.add_argument("--partitions", type=int, default=5000)
    options = parser.parse_args()
    report, broker = Report("many-partitions"), one_or_several()
    broker.start()
    idle(broker, report, "an empty broker")
    names = [f"topic-{i:05d}" for i in range(options.topics)]
    stage(broker, report, f"{options.topics} topics", [NewTopic(name, 1, REPLICATION_FACTOR) for name in names], [(name, 0) for name in names])
    wide = [NewTopic("wide", options.partitions, REPLICATION_FACTOR)]
    stage(broker, report, f"a topic of {options.partitions} partitions more", wide, [("wide", p) for p in range(options.partitions)])
    report.say(f"stopped in {broker.stop() * 1000:.0f} ms, started again in {broker.start() * 1000:.0f} ms")
    return report.close(broker)


sys.exit(main())
