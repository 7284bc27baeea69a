"""aiokafka: asyncio."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

import suite
from dataset import Record


class Aiokafka(suite.Adapter):
    name = "aiokafka"
    writes_nulls = False

    def __init__(self, bootstrap):
        super().__init__(bootstrap)
        self.loop = asyncio.new_event_loop()

    def _run(self, what):
        return self.loop.run_until_complete(asyncio.wait_for(what, 2 * suite.DEADLINE_SECONDS))

    async def _admin(self, call):
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            return await call(admin)
        finally:
            await admin.close()

    @staticmethod
    def _raise_first(errors):
        for entry in errors:
            if entry[1]:
                raise for_code(entry[1])(entry)

    def create_topic(self, topic, partitions, config, replication=suite.REPLICATION_FACTOR):
        response = self._run(self._admin(lambda a: a.create_topics([NewTopic(topic, partitions, replication, topic_configs=config)])))
        self._raise_first(response.topic_errors)

    def delete_topic(self, topic):
        self._raise_first(self._run(self._admin(lambda a: a.delete_topics([topic]))).topic_error_codes)

    def partition_counts(self):
        return {t["topic"]: len(t["partitions"]) for t in self._run(self._admin(lambda a: a.describe_topics()))}

    def error_code(self, error):
        return getattr(error, "errno", None) if isinstance(error, KafkaError) else None

    def produce(self, topic, records, acks="all", compression="none", idempotent=False, max_request=None):
        async def go():
            producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks=acks, linger_ms=5, enable_idempotence=idempotent,
                                        compression_type=None if compression == "none" else compression,
                                        max_request_size=max_request or 1_048_576)
            await producer.start()
            try:
                futures = [await producer.send(topic, value=r.value, key=r.key, headers=r.headers, partition=r.partition, timestamp_ms=r.timestamp)
                           for r in records]
                await producer.flush()
                sent = [await future for future in futures]
                # With acks=0 the client knows no offsets.
                return [(m.partition, m.offset) if m else None for m in sent]
            finally:
                await producer.stop()

        return self._run_outside(go)

    def _run_outside(self, go):
        """Also callable while another of our coroutines runs (produce from within consume)."""
        if not self.loop.is_running():
            return self._run(go())
        import threading
        box = []
        thread = threading.Thread(target=lambda: box.append(asyncio.run(go())))
        thread.start()
        thread.join()
        return box[0]

    async def _consumer(self, work):
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="none")
        await consumer.start()
        try:
            return await work(consumer)
        finally:
            await consumer.stop()

    def consume(self, topic, starts, count, then=None):
        async def work(consumer):
            consumer.assign([TopicPartition(topic, p) for p in starts])
            for p, s in starts.items():
                tp = TopicPartition(topic, p)
                if s == suite.EARLIEST:
                    await consumer.seek_to_beginning(tp)
                elif s == suite.LATEST:
                    await consumer.seek_to_end(tp)
                else:
                    consumer.seek(tp, s)
            if then:
                for p in starts:
                    await consumer.position(TopicPartition(topic, p))
                then()
            out = []
            while len(out) < count:
                messages = await asyncio.wait_for(consumer.getmany(timeout_ms=1000, max_records=5000), suite.DEADLINE_SECONDS)
                for batch in messages.values():
                    out += [Record(m.partition, m.timestamp, m.key, m.value, m.headers, m.offset) for m in batch]
            return out

        return self._run(self._consumer(work))

    def offsets_for_timestamps(self, topic, timestamps):
        found = self._run(self._consumer(lambda c: c.offsets_for_times({TopicPartition(topic, p): t for p, t in timestamps.items()})))
        return {tp.partition: f.offset if f is not None and f.offset >= 0 else None for tp, f in found.items()}

    def watermarks(self, topic, partition):
        async def work(consumer):
            tp = TopicPartition(topic, partition)
            return (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]

        return self._run(self._consumer(work))

    def close(self):
        self.loop.close()


suite.main(Aiokafka)
