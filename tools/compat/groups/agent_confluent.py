"""confluent-kafka as an agent."""

import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType)

import agent
from agent import POLL_SECONDS, TIMEOUT_SECONDS


class Confluent(agent.Agent):
    features = {"eager", "cooperative", "consumer", "exact", "async", "none", "static", "static_consumer", "fenced", "pattern", "commit", "commit_any", "committed", "auto_commit",
                "create_topic", "create_partitions", "produce", "list_groups", "describe_group", "describe_consumer_group", "group_offsets", "alter_offsets",
                "delete_group", "configs", "alter_configs", "delete_records"}
    assignors = {"eager": "range", "cooperative": "cooperative-sticky"}

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def error_code(self, error):
        if not isinstance(error, KafkaException):
            return None
        code, text = error.args[0].code(), error.args[0].str()
        if code == KafkaError._FATAL:
            # The library keeps the broker's number to itself and tells only its text.
            code = next((number for number in range(1, 134) if KafkaError(number).str() in text), code)
        return code if code > 0 else None

    # ---- member

    def join(self, group, topics, pattern, session_ms, heartbeat_ms, instance, assignor, reset, auto_commit):
        config = {"bootstrap.servers": self.bootstrap, "group.id": group, "client.id": "member", "fetch.wait.max.ms": 100,
                  "auto.offset.reset": {"none": "error"}.get(reset, reset), "topic.metadata.refresh.interval.ms": 500,
                  "enable.auto.commit": auto_commit, "auto.commit.interval.ms": 200, "on_commit": self._committed,
                  "error_cb": lambda error: self.trouble(KafkaException(error))}
        if instance:
            config["group.instance.id"] = instance
        if assignor == "consumer":
            config["group.protocol"] = "consumer"
        else:
            config |= {"session.timeout.ms": session_ms, "heartbeat.interval.ms": heartbeat_ms,
                       "partition.assignment.strategy": self.assignors[assignor]}
        self.consumer = Consumer(config)
        self.consumer.subscribe([f"^{pattern}"] if pattern else topics, on_assign=self._told("assigned"), on_revoke=self._told("revoked"),
                                on_lost=self._told("lost"))

    def _told(self, kind):
        return lambda _, partitions: self.event(kind, [(p.topic, p.partition) for p in partitions])

    def poll(self):
        for message in self.consumer.consume(100, timeout=POLL_SECONDS):
            if message.error():
                self.trouble(KafkaException(message.error()))
            else:
                self.event("record", partition=f"{message.topic()}:{message.partition()}", offset=message.offset())

    def _committed(self, error, partitions):
        self.outcome = error, partitions

    def commit(self, offsets, how):
        wanted = [TopicPartition(*agent.split(name), offset, metadata) for name, (offset, metadata) in offsets.items()]
        if how == "sync":
            partitions = self.consumer.commit(offsets=wanted, asynchronous=False)
        else:
            self.outcome, deadline = None, time.monotonic() + TIMEOUT_SECONDS
            self.consumer.commit(offsets=wanted, asynchronous=True)
            while self.outcome is None:
                assert time.monotonic() < deadline, "no answer to an asynchronous commit"
                self.poll()
            error, partitions = self.outcome
            if error:
                raise KafkaException(error)
        self._raise_first(partitions)

    @staticmethod
    def _raise_first(partitions):
        for partition in partitions:
            if partition.error:
                raise KafkaException(partition.error)

    def committed(self, partitions):
        found = self.consumer.committed([TopicPartition(*agent.split(name)) for name in partitions], timeout=TIMEOUT_SECONDS)
        self._raise_first(found)
        return {f"{p.topic}:{p.partition}": agent.known(p.offset, p.metadata) for p in found}

    def close(self):
        consumer, self.consumer = self.consumer, None
        consumer.close()

    # ---- admin

    @staticmethod
    def _only(futures):
        return next(iter(futures.values())).result(TIMEOUT_SECONDS)

    def create_topic(self, topic, partitions):
        self._only(self.admin.create_topics([NewTopic(topic, partitions, agent.REPLICATION_FACTOR)]))

    def create_partitions(self, topic, count):
        self._only(self.admin.create_partitions([NewPartitions(topic, count)]))

    def produce(self, topic, partition, count):
        producer, errors = Producer({"bootstrap.servers": self.bootstrap, "acks": "all", "linger.ms": 1}), []
        for number in range(count):
            producer.produce(topic, b"%d" % number, partition=partition, on_delivery=lambda error, _: error and errors.append(error))
        assert producer.flush(TIMEOUT_SECONDS) == 0, "not everything was delivered in time"
        if errors:
            raise KafkaException(errors[0])

    def list_groups(self):
        answer = self.admin.list_consumer_groups().result(TIMEOUT_SECONDS)
        if answer.errors:
            raise answer.errors[0]
        return {group.group_id: group.state.name for group in answer.valid}

    def describe_group(self, group):
        found = self._only(self.admin.describe_consumer_groups([group]))
        return {"state": found.state.name, "members": [
            {"client_id": m.client_id, "host": m.host, "instance": m.group_instance_id,
             "partitions": [f"{p.topic}:{p.partition}" for p in m.assignment.topic_partitions]} for m in found.members]}

    def group_offsets(self, group):
        found = self._only(self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        self._raise_first(found.topic_partitions)
        return {f"{p.topic}:{p.partition}": agent.known(p.offset, p.metadata) for p in found.topic_partitions}

    def alter_offsets(self, group, offsets):
        wanted = [TopicPartition(*agent.split(name), offset, metadata) for name, (offset, metadata) in offsets.items()]
        self._raise_first(self._only(self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])).topic_partitions)

    def delete_group(self, group):
        self._only(self.admin.delete_consumer_groups([group]))

    def configs(self, topic):
        found = self._only(self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]))
        return {name: entry.value for name, entry in found.items()}

    def alter_configs(self, topic, set, delete, append):
        changes = [(AlterConfigOpType.SET, set), (AlterConfigOpType.DELETE, dict.fromkeys(delete)), (AlterConfigOpType.APPEND, append)]
        entries = [ConfigEntry(name, value, incremental_operation=operation) for operation, entries in changes for name, value in entries.items()]
        self._only(self.admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]))

    def delete_records(self, topic, partition, before):
        return self._only(self.admin.delete_records([TopicPartition(topic, partition, before)])).low_watermark


agent.main(Confluent)
