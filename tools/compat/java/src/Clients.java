import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** What the Java client shows as a producer, as a consumer of partitions, and of topics. */
final class Clients extends Suite {
    private static final int PARTITIONS = 3;

    private List<Row> rows;

    // ---- the client's verbs

    /** The metadata of each record, in the order of `rows`; throws what the first refused record was refused with. */
    List<RecordMetadata> produce(String topic, List<Row> rows, Map<String, String> config) throws Exception {
        Properties properties = new Properties();
        properties.putAll(Map.of("bootstrap.servers", BOOTSTRAP, "linger.ms", "5", "enable.idempotence", "false"));
        properties.putAll(config);
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (Row row : rows) sent.add(producer.send(row.toProduce(topic)));
            producer.flush();
            List<RecordMetadata> where = new ArrayList<>();
            for (Future<RecordMetadata> one : sent) where.add(get(one));
            return where;
        }
    }

    private Consumer<byte[], byte[]> consumer(String topic, Set<Integer> partitions) {
        Properties properties = new Properties();
        properties.putAll(Map.of("bootstrap.servers", BOOTSTRAP, "enable.auto.commit", "false", "auto.offset.reset", "none", "check.crcs", "true"));
        Consumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.assign(partitions.stream().map(p -> new TopicPartition(topic, p)).toList());
        return consumer;
    }

    private List<Row> poll(Consumer<byte[], byte[]> consumer, long count) {
        List<Row> out = new ArrayList<>();
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        while (out.size() < count) {
            check(System.nanoTime() < deadline, "only " + out.size() + " of " + count + " records came in time");
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) out.add(Row.of(record));
        }
        out.sort(Row.ORDER);
        return out;
    }

    private List<Row> consumeAll(String topic, Set<Integer> partitions, long count) {
        try (Consumer<byte[], byte[]> consumer = consumer(topic, partitions)) {
            consumer.seekToBeginning(consumer.assignment());
            return poll(consumer, count);
        }
    }

    void dump(String topic) throws Exception {
        int partitions = get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
        Set<Integer> all = IntStream.range(0, partitions).boxed().collect(Collectors.toSet());
        try (Consumer<byte[], byte[]> consumer = consumer(topic, all)) {
            long count = consumer.endOffsets(consumer.assignment()).values().stream().mapToLong(Long::longValue).sum();
            consumer.seekToBeginning(consumer.assignment());
            StringBuilder text = new StringBuilder();
            for (Row row : poll(consumer, count)) text.append(row.line()).append('\n');
            System.out.print(text);
        }
    }

    // ---- the suite

    void suite(List<Row> data, List<Row> nulls) throws Exception {
        rows = data;
        test("topics are created, described, listed, refused when wrong, and deleted", this::topics);
        test("the cluster describes itself", this::cluster);
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd"))
            for (String acks : List.of("0", "1", "all"))
                test(compression + ", acks=" + acks + ": everything written is read back, byte for byte", () -> roundTrip(compression, acks));
        test("records with neither key nor value, and headers without a value", () -> {
            String topic = topic("nulls", PARTITIONS);
            produce(topic, nulls, Map.of());
            same(consumeAll(topic, Set.of(0, 1, 2), nulls.size()), Row.expected(nulls));
        });
        test("an idempotent producer's records are there once and in order", this::idempotent);
        test("a record over max.message.bytes is refused, the next one is taken", this::tooLarge);
        String topic = topic("read", PARTITIONS);
        produce(topic, rows, Map.of());
        test("consumes from the earliest offset", () -> same(consumeAll(topic, Set.of(1), count(1)), from(1, 0)));
        test("consumes from the latest offset: only what comes afterwards", this::fromLatest);
        test("consumes from any offset", () -> fromOffset(topic));
        test("finds offsets by timestamp and consumes from there", () -> fromTimestamp(topic));
        test("the admin lists earliest, latest, by timestamp and the largest timestamp's offset", () -> adminOffsets(topic));
        test("an offset out of range, and no offset at all, are told", () -> outOfRange(topic));
        test("first and last offsets are told", () -> {
            try (Consumer<byte[], byte[]> consumer = consumer(topic, Set.of(0, 1, 2))) {
                for (TopicPartition tp : consumer.assignment()) {
                    check(consumer.beginningOffsets(List.of(tp)).get(tp) == 0, "begins at 0");
                    check(consumer.endOffsets(List.of(tp)).get(tp) == count(tp.partition()), "ends at the number of records");
                }
            }
        });
        test("20,000 small records in large batches, in order", this::many);
    }

    private void topics() throws Exception {
        String name = PREFIX + "-admin";
        CreateTopicsResult created = admin.createTopics(List.of(new NewTopic(name, 5, (short) REPLICATION_FACTOR).configs(KEEP_EVERYTHING)));
        get(created.all());
        check(get(created.numPartitions(name)) == 5, "five partitions are told");
        check(get(created.config(name)).get("retention.ms").value().equals("-1"), "the topic's configuration is told");
        eventually("the new topic is listed", () -> get(admin.listTopics().names()).contains(name));
        var description = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
        check(description.partitions().size() == 5, "five partitions are described");
        check(description.topicId().equals(get(created.topicId(name))), "created and described with the same id");
        refused(TopicExistsException.class, () -> { createTopic(name, 5, 1, Map.of()); return null; });
        refused(InvalidTopicException.class, () -> { createTopic(name + " with spaces", 1, 1, Map.of()); return null; });
        refused(InvalidReplicationFactorException.class, () -> { createTopic(name + "-rf", 1, 9, Map.of()); return null; });
        get(admin.deleteTopics(List.of(name)).all());
        eventually("the deleted topic is gone", () -> !get(admin.listTopics().names()).contains(name));
        refused(UnknownTopicOrPartitionException.class, () -> get(admin.deleteTopics(List.of(name)).all()));
    }

    private void cluster() throws Exception {
        var cluster = admin.describeCluster();
        check(get(cluster.nodes()).size() >= 1, "there is a node");
        check(get(cluster.clusterId()).length() == 22, "the cluster id is a base64 UUID");
        check(get(cluster.controller()) != null, "there is a controller");
    }

    private void roundTrip(String compression, String acks) throws Exception {
        String topic = topic(compression + "-" + acks, PARTITIONS);
        List<RecordMetadata> where = produce(topic, rows, Map.of("compression.type", compression, "acks", acks));
        if (!acks.equals("0")) {
            Map<Integer, Long> next = new HashMap<>();
            for (RecordMetadata m : where)
                check(m.offset() == next.merge(m.partition(), 1L, Long::sum) - 1, "acknowledged offsets are 0, 1, 2, ...");
        }
        same(consumeAll(topic, Set.of(0, 1, 2), rows.size()), Row.expected(rows));
    }

    private void idempotent() throws Exception {
        String topic = topic("idempotent", PARTITIONS);
        List<Row> twice = new ArrayList<>(rows);
        twice.addAll(rows);
        for (int i = 0; i < 2; i++) produce(topic, rows, Map.of("enable.idempotence", "true", "acks", "all", "compression.type", "lz4"));
        same(consumeAll(topic, Set.of(0, 1, 2), twice.size()), Row.expected(twice));
    }

    private void tooLarge() throws Exception {
        String topic = topic("too-large", 1);
        byte[] noise = new byte[1_500_000];
        new Random(1).nextBytes(noise);
        Row big = new Row(0, Row.NO_OFFSET, System.currentTimeMillis(), null, noise, List.of());
        Row small = new Row(0, Row.NO_OFFSET, System.currentTimeMillis(), null, new byte[] {1}, List.of());
        refused(RecordTooLargeException.class, () -> produce(topic, List.of(big), Map.of("max.request.size", "4000000")));
        check(produce(topic, List.of(small), Map.of()).get(0).offset() == 0, "the next record gets offset 0");
    }

    private void fromLatest() throws Exception {
        String topic = topic("latest", 1);
        Row one = new Row(0, Row.NO_OFFSET, System.currentTimeMillis(), null, new byte[] {1}, List.of());
        produce(topic, List.of(one, one, one, one, one), Map.of());
        try (Consumer<byte[], byte[]> consumer = consumer(topic, Set.of(0))) {
            consumer.seekToEnd(consumer.assignment());
            check(consumer.position(new TopicPartition(topic, 0)) == 5, "the end is 5");
            produce(topic, List.of(one), Map.of());
            check(poll(consumer, 1).get(0).offset() == 5, "the record after the end comes first");
        }
    }

    private void fromOffset(String topic) throws Exception {
        List<Row> wanted = new ArrayList<>(from(0, 17));
        wanted.addAll(from(2, 40));
        try (Consumer<byte[], byte[]> consumer = consumer(topic, Set.of(0, 2))) {
            consumer.seek(new TopicPartition(topic, 0), 17);
            consumer.seek(new TopicPartition(topic, 2), 40);
            same(poll(consumer, wanted.size()), wanted);
        }
    }

    private void fromTimestamp(String topic) throws Exception {
        Row mark = mark();
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1), two = new TopicPartition(topic, 2);
        try (Consumer<byte[], byte[]> consumer = consumer(topic, Set.of(0))) {
            Map<TopicPartition, OffsetAndTimestamp> found =
                consumer.offsetsForTimes(Map.of(zero, mark.timestamp(), one, mark.timestamp() + 10_000_000, two, 0L));
            check(found.get(zero).offset() == mark.offset() && found.get(zero).timestamp() == mark.timestamp(), "the mark is found");
            check(found.get(one) == null, "nothing is as young as that");
            check(found.get(two).offset() == 0, "everything is younger than 1970");
            check(consumer.offsetsForTimes(Map.of(zero, mark.timestamp() + 1)).get(zero).offset() == mark.offset() + 1, "the next one is younger");
            consumer.seek(zero, found.get(zero).offset());
            List<Row> wanted = from(0, mark.offset());
            same(poll(consumer, wanted.size()), wanted);
        }
    }

    private void adminOffsets(String topic) throws Exception {
        TopicPartition zero = new TopicPartition(topic, 0);
        Row last = from(0, 0).get((int) count(0) - 1);
        check(get(admin.listOffsets(Map.of(zero, OffsetSpec.earliest())).all()).get(zero).offset() == 0, "earliest");
        check(get(admin.listOffsets(Map.of(zero, OffsetSpec.latest())).all()).get(zero).offset() == count(0), "latest");
        check(get(admin.listOffsets(Map.of(zero, OffsetSpec.forTimestamp(mark().timestamp()))).all()).get(zero).offset() == mark().offset(), "by timestamp");
        var largest = get(admin.listOffsets(Map.of(zero, OffsetSpec.maxTimestamp())).all()).get(zero);
        check(largest.offset() == last.offset() && largest.timestamp() == last.timestamp(), "largest timestamp: " + largest);
    }

    private void outOfRange(String topic) throws Exception {
        try (Consumer<byte[], byte[]> consumer = consumer(topic, Set.of(0))) {
            refused(NoOffsetForPartitionException.class, () -> poll(consumer, 1));
            consumer.seek(new TopicPartition(topic, 0), 1_000_000);
            refused(OffsetOutOfRangeException.class, () -> poll(consumer, 1));
            consumer.seek(new TopicPartition(topic, 0), count(0) - 1);
            check(poll(consumer, 1).get(0).offset() == count(0) - 1, "a good offset works afterwards");
        }
    }

    private void many() throws Exception {
        String topic = topic("many", 2);
        List<Row> many = new ArrayList<>();
        for (int i = 0; i < 20_000; i++)
            many.add(new Row(i % 2, Row.NO_OFFSET, 1_700_000_000_000L + i, null, String.format("%0100d", i).getBytes(), List.of()));
        produce(topic, many, Map.of("compression.type", "zstd", "batch.size", "100000"));
        same(consumeAll(topic, Set.of(0, 1), many.size()), Row.expected(many));
    }

    // ---- helpers

    private static void same(List<Row> got, List<Row> wanted) {
        check(got.size() == wanted.size(), wanted.size() + " records expected, got " + got.size());
        for (int i = 0; i < got.size(); i++) {
            String one = got.get(i).line(), other = wanted.get(i).line();
            if (!one.equals(other)) throw new AssertionError("expected " + head(other) + ", got " + head(one));
        }
    }

    private static String head(String line) {
        return line.substring(0, Math.min(300, line.length()));
    }

    private long count(int partition) {
        return rows.stream().filter(r -> r.partition() == partition).count();
    }

    private List<Row> from(int partition, long offset) {
        return Row.expected(rows).stream().filter(r -> r.partition() == partition && r.offset() >= offset).toList();
    }

    private Row mark() {
        return Row.expected(rows).stream().filter(r -> r.key() != null && new String(r.key()).equals("mark")).findFirst().orElseThrow();
    }
}
