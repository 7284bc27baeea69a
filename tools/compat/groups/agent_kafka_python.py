"""kafka-python as an agent."""

import threading

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import ConfigResource, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka import errors
from kafka.errors import KafkaError, NoError

import agent
from agent import TIMEOUT_SECONDS

# A poll that ends while the group rebalances starts that again and again: short ones never get to its end.
POLL_MS = 500


class Listener(ConsumerRebalanceListener):
    def __init__(self, tell):
        self.tell = tell

    def on_partitions_assigned(self, assigned): self.tell("assigned", assigned)
    def on_partitions_revoked(self, revoked): self.tell("revoked", revoked)
    def on_partitions_lost(self, lost): self.tell("lost", lost)


class KafkaPython(agent.Agent):
    features = {"eager", "cooperative", "exact", "async", "static", "fenced", "commit", "commit_any", "committed", "auto_commit", "none",
                "create_topic", "create_partitions", "produce", "list_groups", "describe_group", "group_offsets", "alter_offsets", "delete_offsets",
                "delete_group", "configs", "alter_configs", "delete_records"}
    assignors = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self._admin = None

    @property
    def admin(self):
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self._admin

    def error_code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    # ---- member

    def join(self, group, topics, pattern, session_ms, heartbeat_ms, instance, assignor, reset, auto_commit):
        self.consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, client_id="member", group_instance_id=instance,
                                      session_timeout_ms=session_ms, heartbeat_interval_ms=heartbeat_ms, auto_offset_reset=reset,
                                      enable_auto_commit=auto_commit, auto_commit_interval_ms=200, fetch_max_wait_ms=100, metadata_max_age_ms=500,
                                      partition_assignment_strategy=[self.assignors[assignor]])
        self.consumer.subscribe(topics=() if pattern else topics, pattern=pattern, listener=Listener(self.event))

    def poll(self):
        for messages in self.consumer.poll(timeout_ms=POLL_MS).values():
            for m in messages:
                self.event("record", partition=f"{m.topic}:{m.partition}", offset=m.offset)
        # 3.0.12 forgets a rejoin that new partitions have led to, if a poll ends between JoinGroup and SyncGroup: the leader has noted them by then, sees no reason to rejoin
        # any more, and neither takes its assignment nor sends heartbeats.
        if self.consumer._coordinator.rejoining:
            self.consumer._coordinator.request_rejoin()

    def commit(self, offsets, how):
        wanted = {TopicPartition(*agent.split(name)): OffsetAndMetadata(offset, metadata, -1) for name, (offset, metadata) in offsets.items()}
        if how == "sync":
            self.consumer.commit(wanted, timeout_ms=1000 * TIMEOUT_SECONDS)
        else:
            answered, outcome = threading.Event(), []
            self.consumer.commit_async(wanted, callback=lambda _, response: (outcome.append(response), answered.set()))
            while not answered.is_set():
                self.poll()
            if isinstance(outcome[0], Exception):
                raise outcome[0]

    def committed(self, partitions):
        out = {}
        for name in partitions:
            found = self.consumer.committed(TopicPartition(*agent.split(name)), metadata=True)
            out[name] = agent.known(found.offset, found.metadata) if found else [None, ""]
        return out

    def close(self):
        consumer, self.consumer = self.consumer, None
        consumer.close()

    # ---- admin

    def create_topic(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions, agent.REPLICATION_FACTOR)])

    def create_partitions(self, topic, count):
        self.admin.create_partitions({topic: count})

    def produce(self, topic, partition, count):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        sent = [producer.send(topic, b"%d" % number, partition=partition) for number in range(count)]
        for future in sent:
            future.get(TIMEOUT_SECONDS)
        producer.close()

    def list_groups(self):
        return {group["group_id"]: group.get("group_state") for group in self.admin.list_groups()}

    def describe_group(self, group):
        found = self.admin.describe_groups([group])[group]
        if found["error"]:
            raise agent.Refused(None, found["error"])
        return {"state": found["group_state"], "members": [
            {"client_id": m["client_id"], "host": m["client_host"], "instance": m["group_instance_id"],
             "partitions": [f"{topic['topic']}:{p}" for topic in m["member_assignment"]["assigned_partitions"] for p in topic["partitions"]]}
            for m in found["members"]]}

    def group_offsets(self, group):
        return {f"{tp.topic}:{tp.partition}": agent.known(found.offset, found.metadata) for tp, found in self.admin.list_group_offsets([group])[group].items()}

    @staticmethod
    def _refuse(outcomes):
        for error in outcomes:
            if error is not NoError:
                raise agent.Refused(error.errno, error.__name__)

    def alter_offsets(self, group, offsets):
        wanted = {TopicPartition(*agent.split(name)): OffsetAndMetadata(offset, metadata, -1) for name, (offset, metadata) in offsets.items()}
        self._refuse(self.admin.alter_group_offsets(group, wanted).values())

    def delete_offsets(self, group, partitions):
        self._refuse(self.admin.delete_group_offsets(group, [TopicPartition(*agent.split(name)) for name in partitions]).values())

    def delete_group(self, group):
        result = self.admin.delete_groups([group])[group]
        if result != "OK":
            raise getattr(errors, result)

    def configs(self, topic):
        found = self.admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
        if not found["topic"][topic]:
            raise agent.Refused(None, "the library keeps the error to itself")
        return {name: entry["value"] for name, entry in found["topic"][topic].items()}

    def alter_configs(self, topic, set, delete, append):
        changes = {name: ("SET", value) for name, value in set.items()} | {name: ("DELETE", None) for name in delete} | \
                  {name: ("APPEND", value) for name, value in append.items()}
        result = self.admin.alter_configs([ConfigResource("TOPIC", topic, changes)], raise_on_unknown=False)["topic"][topic]
        if result != "OK":
            raise agent.Refused(int(result.split("]")[0].lstrip("[").removeprefix("Error ")), result)

    def delete_records(self, topic, partition, before):
        return self.admin.delete_records({TopicPartition(topic, partition): before})[TopicPartition(topic, partition)]["low_watermark"]


agent.main(KafkaPython)
