"""Members of a group that read and commit until standard input is closed, and log what happens to them (groups.py has the words). confluent-kafka.

What librdkafka says of the group goes to standard error, and on SIGUSR1 where each thread is.
usage: committing.py GROUP TOPIC MEMBERS LOG
"""

import faulthandler
import os
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

COMMIT_SECONDS = 0.1
# Then a commit counts as lost, and is part of the next one.
ANSWER_SECONDS = 30
# What a broker may say to a member: the group has gone on without it, the coordinator or a leader has moved, or cannot answer just now. It gets over these by itself.
PASSING = {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS, KafkaError.NOT_COORDINATOR,
           KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.REQUEST_TIMED_OUT, KafkaError.NETWORK_EXCEPTION,
           KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.REPLICA_NOT_AVAILABLE, KafkaError.BROKER_NOT_AVAILABLE,
           KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
           KafkaError.KAFKA_STORAGE_ERROR}
# What the client itself may say passes too (a connection that is gone, a time-out), but not this: something that it has received is wrong.
WRONG = {KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError._AUTO_OFFSET_RESET, KafkaError._UNDERFLOW, KafkaError._INVALID_TYPE}


class Log:
    def __init__(self, path):
        self.file, self.lock = open(path, "w", buffering=1), threading.Lock()

    def say(self, *words):
        with self.lock:
            self.file.write(" ".join(map(str, words)) + "\n")


class Member(threading.Thread):
    """Commits are asynchronous: librdkafka 2.12's synchronous one waits for ever if the session ends meanwhile, because the application, which should give its
    partitions up, waits in it (confluentinc/confluent-kafka-python#1801)."""

    def __init__(self, number, group, topic, log, stop):
        super().__init__()
        self.number, self.topic, self.log, self.stop, self.read = number, topic, log, stop, {}
        self.unanswered, self.asked = {}, 0
        self.consumer = Consumer({
            "debug": "cgrp", "bootstrap.servers": os.environ["BOOTSTRAP"], "group.id": group, "client.id": f"{group}-{number}", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "check.crcs": True, "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000,
            "partition.assignment.strategy": "cooperative-sticky", "reconnect.backoff.max.ms": 200, "socket.timeout.ms": 10_000,
            "fetch.wait.max.ms": 100, "on_commit": self.answered, "topic.metadata.refresh.interval.ms": 1000, "max.poll.interval.ms": 300_000})

    def run(self):
        self.consumer.subscribe([self.topic], on_assign=self.assigned, on_revoke=self.given_up, on_lost=self.given_up)
        while not self.stop.is_set():
            message = self.consumer.poll(0.05)
            if message is not None and message.error():
                self.complain(message.error())
            elif message is not None:
                name, _, sequence, _ = message.value().split(b" ", 3)
                self.log.say("read", self.number, message.partition(), message.offset(), name.decode(), int(sequence))
                self.read[message.partition()] = message.offset() + 1
            if self.unanswered and time.monotonic() - self.asked >= ANSWER_SECONDS:
                self.again(self.unanswered)
                self.unanswered = {}
            if self.read and not self.unanswered and time.monotonic() - self.asked >= COMMIT_SECONDS:
                self.commit()
        self.consumer.close()

    def assigned(self, _consumer, partitions):
        for partition in partitions:
            self.log.say("assigned", self.number, partition.partition)

    def given_up(self, _consumer, partitions):
        for partition in partitions:
            self.read.pop(partition.partition, None)

    def commit(self):
        offsets, self.read = self.read, {}
        for partition, offset in offsets.items():
            self.log.say("trying", self.number, partition, offset)
        self.unanswered, self.asked = offsets, time.monotonic()
        try:
            self.consumer.commit(offsets=[TopicPartition(self.topic, p, o) for p, o in offsets.items()], asynchronous=True)
        except KafkaException as error:
            self.unanswered = {}
            self.again(offsets)
            self.complain(error.args[0])

    def answered(self, error, results):
        self.unanswered = {}
        for result in results:
            failure = error or result.error
            if failure is None:
                self.log.say("committed", self.number, result.partition, result.offset)
            else:
                self.again({result.partition: result.offset})
                self.complain(failure)

    def again(self, offsets):
        """What could not be committed is part of the next commit, if it is still this member's."""
        mine = {p.partition for p in self.consumer.assignment()}
        self.read = {p: o for p, o in offsets.items() if p in mine} | self.read

    def complain(self, error):
        passes = error.code() in PASSING or error.retriable() or (error.code() < 0 and error.code() not in WRONG)
        if error.fatal() or not passes:
            self.log.say("error", self.number, error.name(), error.str())


def main(group, topic, members, path):
    faulthandler.register(signal.SIGUSR1)
    stop, log = threading.Event(), Log(path)
    following = [Member(number, group, topic, log, stop) for number in range(int(members))]
    for member in following:
        member.start()
    sys.stdin.read()
    stop.set()
    for member in following:
        member.join()


main(*sys.argv[1:])
