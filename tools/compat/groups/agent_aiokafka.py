"""aiokafka as an agent: one event loop, which runs while the agent polls."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, for_code
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

import agent
from agent import POLL_SECONDS, TIMEOUT_SECONDS


class Listener(ConsumerRebalanceListener):
    def __init__(self, tell):
        self.tell = tell

    def on_partitions_assigned(self, assigned): self.tell("assigned", assigned)
    def on_partitions_revoked(self, revoked): self.tell("revoked", revoked)


class Aiokafka(agent.Agent):
    # Commits are for assigned partitions only. Neither heartbeats nor commits carry group.instance.id, so nobody is fenced; asking for committed offsets leaves their metadata out.
    features = {"eager", "exact", "async", "static", "pattern", "commit", "auto_commit", "none", "create_topic", "create_partitions", "produce",
                "list_groups", "describe_group", "group_offsets", "configs", "delete_records"}

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.loop = asyncio.new_event_loop()
        self._admin = None

    def run(self, what):
        return self.loop.run_until_complete(asyncio.wait_for(what, TIMEOUT_SECONDS))

    @property
    def admin(self):
        if self._admin is None:
            async def start():
                admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
                await admin.start()
                return admin
            self._admin = self.run(start())
        return self._admin

    def error_code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    # ---- member

    def join(self, group, topics, pattern, session_ms, heartbeat_ms, instance, assignor, reset, auto_commit):
        async def start():
            self.consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, client_id="member", group_instance_id=instance,
                                             session_timeout_ms=session_ms, heartbeat_interval_ms=heartbeat_ms, auto_offset_reset=reset,
                                             enable_auto_commit=auto_commit, auto_commit_interval_ms=200, metadata_max_age_ms=500,
                                             fetch_max_wait_ms=100, partition_assignment_strategy=[RangePartitionAssignor])
            self.consumer.subscribe(topics=() if pattern else topics, pattern=pattern, listener=Listener(self.event))
            await self.consumer.start()
        self.run(start())

    def poll(self):
        for messages in self.run(self.consumer.getmany(timeout_ms=1000 * POLL_SECONDS)).values():
            for m in messages:
                self.event("record", partition=f"{m.topic}:{m.partition}", offset=m.offset)

    def commit(self, offsets, how):
        wanted = {TopicPartition(*agent.split(name)): tuple(value) for name, value in offsets.items()}
        if how == "sync":
            self.run(self.consumer.commit(wanted))
        else:
            task = self.loop.create_task(self.consumer.commit(wanted))
            while not task.done():
                self.poll()
            task.result()

    def close(self):
        consumer, self.consumer = self.consumer, None
        self.run(consumer.stop())

    # ---- admin

    @staticmethod
    def _raise(code, what):
        if code:
            raise for_code(code)(what)

    def create_topic(self, topic, partitions):
        for entry in self.run(self.admin.create_topics([NewTopic(topic, partitions, agent.REPLICATION_FACTOR)])).topic_errors:
            self._raise(entry[1], entry)

    def create_partitions(self, topic, count):
        self.run(self.admin.create_partitions({topic: NewPartitions(count)}))

    def produce(self, topic, partition, count):
        async def go():
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
            await producer.start()
            try:
                for sent in [await producer.send(topic, b"%d" % number, partition=partition) for number in range(count)]:
                    await sent
            finally:
                await producer.stop()
        self.run(go())

    def list_groups(self):
        return {name: None for name, *_ in self.run(self.admin.list_consumer_groups())}

    def describe_group(self, group):
        code, _, state, _, _, members, *_ = self.run(self.admin.describe_consumer_groups([group]))[0].groups[0]
        self._raise(code, group)
        return {"state": state, "members": [self._member(*member) for member in members]}

    @staticmethod
    def _member(member_id, *rest):
        instance, client_id, host, _, assignment = rest if len(rest) == 5 else (None, *rest)
        topics = ConsumerProtocolAssignment.decode(assignment).assigned_partitions if assignment else []
        return {"client_id": client_id, "host": host, "instance": instance, "partitions": [f"{t.topic}:{p}" for t in topics for p in t.partitions]}

    def group_offsets(self, group):
        found = self.run(self.admin.list_consumer_group_offsets(group))
        return {f"{tp.topic}:{tp.partition}": agent.known(value.offset, value.metadata) for tp, value in found.items()}

    def configs(self, topic):
        code, message, _, _, entries = self.run(self.admin.describe_configs([ConfigResource("TOPIC", topic)]))[0].resources[0]
        self._raise(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def delete_records(self, topic, partition, before):
        wanted = TopicPartition(topic, partition)
        return self.run(self.admin.delete_records({wanted: RecordsToDelete(before)}))[wanted]


agent.main(Aiokafka)
