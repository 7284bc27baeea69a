"""Many consumers of one group in one process. confluent-kafka. usage: members.py GROUP TOPIC COUNT KIND

KIND: eager (range), cooperative (cooperative-sticky) or consumer (the protocol of KIP-848). What happens to each consumer is told
on standard output in the words of groups/agent.py, with its number as "member". `leave` on standard input closes them all;
the end of standard input ends the process without a farewell.
"""

import json
import os
import sys
import threading
import time

from confluent_kafka import Consumer

from broker import quiet

SESSION_MS, HEARTBEAT_MS = 6_000, 1_000
ASSIGNORS = {"eager": "range", "cooperative": "cooperative-sticky"}


def say(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def told(kind, member):
    return lambda _, partitions: say(event=kind, member=member, partitions=[p.partition for p in partitions], at=time.time())


def join(group, topic, kind, member):
    config = {"bootstrap.servers": os.environ["BOOTSTRAP"], "group.id": group, "client.id": f"member-{member}", "enable.auto.commit": False,
              "auto.offset.reset": "earliest"}
    if kind == "consumer":
        config["group.protocol"] = "consumer"
    else:
        config |= {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS, "partition.assignment.strategy": ASSIGNORS[kind]}
    consumer = quiet(Consumer, config)
    consumer.subscribe([topic], on_assign=told("assigned", member), on_revoke=told("revoked", member), on_lost=told("lost", member))
    return consumer


def main(group, topic, count, kind):
    leave = threading.Event()

    def commands():
        for line in sys.stdin:
            if line.strip() == "leave":
                leave.set()
                return
        os._exit(0)

    threading.Thread(target=commands, daemon=True).start()
    consumers = [join(group, topic, kind, member) for member in range(int(count))]
    while not leave.is_set():
        idle = True
        for member, consumer in enumerate(consumers):
            message = consumer.poll(0)
            if message is not None:
                idle = False
                if message.error():
                    say(event="error", member=member, message=str(message.error()))
                else:
                    say(event="record", member=member, partition=message.partition(), value=message.value().decode())
        if idle:
            time.sleep(0.01)
    closing = [threading.Thread(target=consumer.close) for consumer in consumers]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    say(event="closed")


main(*sys.argv[1:])
