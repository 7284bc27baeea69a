"""kafka-python: pure Python."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

import suite
from dataset import Record


class KafkaPython(suite.Adapter):
    name = "kafka-python"
    writes_nulls = False

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def create_topic(self, topic, partitions, config, replication=suite.REPLICATION_FACTOR):
        self.admin.create_topics([NewTopic(topic, partitions, replication, topic_configs=config)])

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def partition_counts(self):
        return {t["name"]: len(t["partitions"]) for t in self.admin.describe_topics()}

    def error_code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    def produce(self, topic, records, acks="all", compression="none", idempotent=False, max_request=None):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks=acks, linger_ms=5, enable_idempotence=idempotent,
                                 compression_type=None if compression == "none" else compression,
                                 max_request_size=max_request or 1_048_576)
        futures = [producer.send(topic, value=r.value, key=r.key, headers=r.headers, partition=r.partition, timestamp_ms=r.timestamp)
                   for r in records]
        producer.flush(suite.DEADLINE_SECONDS)
        sent = [future.get(suite.DEADLINE_SECONDS) for future in futures]
        producer.close()
        return [(m.partition, m.offset) for m in sent]

    def _consumer(self):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none", check_crcs=True)

    def consume(self, topic, starts, count, then=None):
        consumer = self._consumer()
        consumer.assign([TopicPartition(topic, p) for p in starts])
        for p, s in starts.items():
            tp = TopicPartition(topic, p)
            if s == suite.EARLIEST:
                consumer.seek_to_beginning(tp)
            elif s == suite.LATEST:
                consumer.seek_to_end(tp)
            else:
                consumer.seek(tp, s)
        if then:
            for p in starts:
                consumer.position(TopicPartition(topic, p))
            then()
        out, deadline = [], time.monotonic() + suite.DEADLINE_SECONDS
        while len(out) < count:
            assert time.monotonic() < deadline, f"only {len(out)} of {count} records came in time"
            for messages in consumer.poll(timeout_ms=200, max_records=5000).values():
                out += [Record(m.partition, m.timestamp, m.key, m.value, m.headers, m.offset) for m in messages]
        consumer.close()
        return out

    def offsets_for_timestamps(self, topic, timestamps):
        consumer = self._consumer()
        found = consumer.offsets_for_times({TopicPartition(topic, p): t for p, t in timestamps.items()})
        consumer.close()
        return {tp.partition: f.offset if f is not None and f.offset >= 0 else None for tp, f in found.items()}

    def watermarks(self, topic, partition):
        consumer, tp = self._consumer(), TopicPartition(topic, partition)
        marks = consumer.beginning_offsets([tp])[tp], consumer.end_offsets([tp])[tp]
        consumer.close()
        return marks

    def close(self):
        self.admin.close()


suite.main(KafkaPython)
