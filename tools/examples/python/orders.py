"""Writes lines to a topic, and reads them as a member of a group.

usage: orders.py produce TOPIC < lines of key:value
       orders.py consume TOPIC GROUP [COUNT]
"""

import os
import signal
import sys

from confluent_kafka import Consumer, KafkaException, Producer

BOOTSTRAP = os.environ.get("BOOTSTRAP", "127.0.0.1:9092")


def produce(topic, lines):
    # Idempotent: what is sent again after a broken connection is not written twice.
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
    failures = []

    def delivered(error, message):
        if error is not None:
            failures.append(f"{message.key()}: {error}")

    for line in lines:
        key, _, value = line.rstrip("\n").partition(":")
        while True:
            try:
                producer.produce(topic, key=key, value=value, on_delivery=delivered)
                break
            except BufferError:
                # The queue is full: wait until the broker has taken some.
                producer.poll(1)
        producer.poll(0)
    producer.flush()
    if failures:
        sys.exit(f"{len(failures)} records were not written, the first: {failures[0]}")


def consume(topic, group, count):
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group,
        "auto.offset.reset": "earliest",
        # We say ourselves what has been done.
        "enable.auto.commit": False,
    })
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))

    # Before partitions go to another member, it must know how far we are.
    def revoked(consumer, partitions):
        commit(consumer)

    consumer.subscribe([topic], on_revoke=revoked)
    done = 0
    try:
        while not stopped and done != count:
            message = consumer.poll(0.5)
            if message is None:
                commit(consumer)
                continue
            if message.error():
                raise KafkaException(message.error())
            value = message.value()
            print(message.partition(), message.offset(), (message.key() or b"").decode(), "null" if value is None else value.decode(), flush=True)
            done += 1
        commit(consumer)
    finally:
        # Leaves the group, so that the others need not wait for our session's end.
        consumer.close()


def commit(consumer):
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        # Nothing new has been read.
        if error.args[0].name() != "_NO_OFFSET":
            raise


def main():
    match sys.argv[1:]:
        case ["produce", topic]:
            produce(topic, sys.stdin)
        case ["consume", topic, group]:
            consume(topic, group, -1)
        case ["consume", topic, group, count]:
            consume(topic, group, int(count))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
