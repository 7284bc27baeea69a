"""confluent-kafka: librdkafka under Python."""

import threading
import time

from confluent_kafka import Consumer, KafkaException, OFFSET_BEGINNING, OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import suite
from dataset import Record


class Confluent(suite.Adapter):
    name = "confluent-kafka"

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(self, topic, partitions, config, replication=suite.REPLICATION_FACTOR):
        for future in self.admin.create_topics([NewTopic(topic, partitions, replication, config=config)]).values():
            future.result(suite.DEADLINE_SECONDS)

    def delete_topic(self, topic):
        for future in self.admin.delete_topics([topic]).values():
            future.result(suite.DEADLINE_SECONDS)

    def partition_counts(self):
        return {name: len(topic.partitions) for name, topic in self.admin.list_topics(timeout=30).topics.items()}

    def error_code(self, error):
        return error.args[0].code() if isinstance(error, KafkaException) else None

    def produce(self, topic, records, acks="all", compression="none", idempotent=False, max_request=None):
        config = {"bootstrap.servers": self.bootstrap, "acks": acks, "compression.type": compression, "linger.ms": 5,
                  "enable.idempotence": idempotent, "topic.metadata.refresh.interval.ms": 1000}
        if max_request:
            config["message.max.bytes"] = max_request
        producer = Producer(config)
        where, errors = {}, []

        def delivered(index):
            def callback(error, message):
                if error:
                    errors.append(error)
                else:
                    where[index] = (message.partition(), message.offset())
            return callback

        for index, r in enumerate(records):
            while True:
                try:
                    producer.produce(topic, value=r.value, key=r.key, partition=r.partition, timestamp=r.timestamp,
                                     headers=r.headers, on_delivery=delivered(index))
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        assert producer.flush(suite.DEADLINE_SECONDS) == 0, "not everything was delivered in time"
        if errors:
            raise KafkaException(errors[0])
        return [where[index] for index in range(len(records))]

    def _consumer(self):
        return Consumer({"bootstrap.servers": self.bootstrap, "group.id": "no-group", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "check.crcs": True, "fetch.wait.max.ms": 100})

    def consume(self, topic, starts, count, then=None):
        consumer = self._consumer()
        special = {suite.EARLIEST: OFFSET_BEGINNING, suite.LATEST: OFFSET_END}
        if then:
            # librdkafka looks the end up in the background: fix it first.
            starts = {p: self.watermarks(topic, p)[1] if s == suite.LATEST else s for p, s in starts.items()}
        consumer.assign([TopicPartition(topic, p, special.get(s, s)) for p, s in starts.items()])
        if then:
            consumer.poll(0)
            timer = threading.Thread(target=then)
            timer.start()
        out, deadline = [], time.monotonic() + suite.DEADLINE_SECONDS
        while len(out) < count:
            assert time.monotonic() < deadline, f"only {len(out)} of {count} records came in time"
            for m in consumer.consume(1000, timeout=0.2):
                if m.error():
                    raise KafkaException(m.error())
                out.append(Record(m.partition(), m.timestamp()[1], m.key(), m.value(), m.headers() or (), m.offset()))
        if then:
            timer.join()
        consumer.close()
        return out

    def offsets_for_timestamps(self, topic, timestamps):
        consumer = self._consumer()
        found = consumer.offsets_for_times([TopicPartition(topic, p, t) for p, t in timestamps.items()], timeout=30)
        consumer.close()
        return {tp.partition: None if tp.offset < 0 else tp.offset for tp in found}

    def watermarks(self, topic, partition):
        consumer = self._consumer()
        marks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        consumer.close()
        return marks


suite.main(Confluent)
