"""Reads all partitions from their start until standard input is closed, from the replicas in its rack where there are any, and logs what it has read.
confluent-kafka.

usage: follow.py TOPIC PARTITIONS RACK LOG

A line of LOG is `partition offset`.
"""

import os
import sys
import threading

from confluent_kafka import Consumer, KafkaError, TopicPartition

from broker import quiet

# What passes when a broker is gone.
PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE)


def main(topic, partitions, rack, path):
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    consumer = quiet(Consumer, {"bootstrap.servers": os.environ["BOOTSTRAP"], "client.rack": rack, "group.id": "no-group", "enable.auto.commit": False,
                          "auto.offset.reset": "error", "check.crcs": True, "fetch.wait.max.ms": 100, "reconnect.backoff.ms": 20,
                          "reconnect.backoff.max.ms": 200, "topic.metadata.refresh.interval.ms": 2000})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(int(partitions))])
    with open(path, "w") as log:
        while not stop.is_set():
            for message in consumer.consume(5000, timeout=0.1):
                if message.error() is None:
                    log.write(f"{message.partition()} {message.offset()}\n")
                elif message.error().code() not in PASSING:
                    print(f"follow: {message.error()}", file=sys.stderr)
                    return 1
            log.flush()
    consumer.close()
    return 0


sys.exit(main(*sys.argv[1:]))
