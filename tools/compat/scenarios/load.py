"""Writes numbered records until standard input is closed, and logs what was acknowledged. confluent-kafka, idempotent.

usage: load.py NAME TOPIC PARTITIONS RATE ACKLOG

LOAD_DEBUG  what librdkafka is to say on standard error (its `debug`)

Record values are `NAME partition sequence padding`; a line of ACKLOG is `partition sequence offset`.
"""

import os
import sys
import threading
import time

from confluent_kafka import Producer

from broker import quiet

PADDING = "x" * 100


def main(name, topic, partitions, rate, path):
    partitions, rate = int(partitions), float(rate)
    failed = []
    with open(path, "w", buffering=1) as log:
        debug = {"debug": os.environ["LOAD_DEBUG"]} if "LOAD_DEBUG" in os.environ else {}
        producer = quiet(Producer, debug | {"bootstrap.servers": os.environ["BOOTSTRAP"], "enable.idempotence": True, "acks": "all", "linger.ms": 2,
                             "delivery.timeout.ms": 2_000_000, "message.timeout.ms": 2_000_000, "reconnect.backoff.ms": 20,
                             "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20})
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()

        def delivered(partition, sequence):
            def callback(error, message):
                if error:
                    failed.append(f"{partition} {sequence}: {error}")
                else:
                    log.write(f"{partition} {sequence} {message.offset()}\n")
            return callback

        sent, started = 0, time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - started) * rate)
            while sent < due:
                partition, sequence = sent % partitions, sent // partitions
                try:
                    producer.produce(topic, f"{name} {partition} {sequence} {PADDING}".encode(), partition=partition, on_delivery=delivered(partition, sequence))
                except BufferError:
                    break
                sent += 1
            producer.poll(0.005)
        left = producer.flush(120)
    for line in failed[:20]:
        print(f"{name}: not delivered: {line}", file=sys.stderr)
    print(f"{name}: {sent} sent, {len(failed)} failed, {left} unanswered", file=sys.stderr)
    return 1 if failed or left else 0


sys.exit(main(*sys.argv[1:]))
