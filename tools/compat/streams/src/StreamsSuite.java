import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.LongDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Kafka Streams: words are counted at least once, and the counts survive restarts. usage: StreamsSuite SCRATCH */
public final class StreamsSuite {
    private static final Duration DEADLINE = Duration.ofSeconds(60);
    private static final int PARTITIONS = 3;
    private static final short REPLICATION_FACTOR = Short.parseShort(System.getenv().getOrDefault("REPLICATION_FACTOR", "1"));
    private static final List<String> WORDS = List.of("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "runs", "away", "again");

    private final String bootstrap = System.getenv("BOOTSTRAP");
    private final String application = "streams-" + ProcessHandle.current().pid() + "-" + System.currentTimeMillis() % 100_000_000;
    private final String input = application + "-lines", output = application + "-output";
    private final String changelog = application + "-" + WordCount.STORE + "-changelog", repartition = application + "-words-repartition";
    private final Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    private final Path state;
    private final Random random = new Random(7);
    private final Map<String, Long> wanted = new HashMap<>();
    private WordCount running;
    private int passed;
    private int failed;

    private StreamsSuite(Path scratch) {
        state = scratch.resolve("state");
    }

    public static void main(String[] args) throws Exception {
        StreamsSuite suite = new StreamsSuite(Path.of(args[0]));
        boolean ok = suite.run();
        suite.admin.close();
        System.exit(ok ? 0 : 1);
    }

    private boolean run() throws Exception {
        get(admin.createTopics(List.of(topic(input), topic(output))).all());
        test("words are counted through a repartition topic", this::count);
        test("the internal topics have the partitions and configs that Streams wants", this::internalTopics);
        test("the group of the application is described", this::group);
        test("the changelog holds the last count of every word", this::changelog);
        test("what is counted is deleted from the repartition topic", this::purge);
        test("a restart without the state directory restores the counts from the changelog and goes on", this::restartWithNothing);
        test("a restart with the state directory restores nothing and goes on", this::restartWithState);
        test("two instances share the work, one closes, nothing is lost", this::twoInstances);
        if (running != null) running.close();
        System.out.println(passed + " passed, " + failed + " failed");
        return failed == 0;
    }

    private NewTopic topic(String name) {
        return new NewTopic(name, PARTITIONS, REPLICATION_FACTOR).configs(Map.of("retention.ms", "-1"));
    }

    private WordCount start(Path directory) {
        return new WordCount(application, input, output, directory);
    }

    /** Writes so many lines, and counts their words the plain way. */
    private void write(int lines) throws Exception {
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer())) {
            List<Future<?>> sent = new ArrayList<>();
            for (int i = 0; i < lines; i++) {
                StringBuilder line = new StringBuilder();
                for (int w = 0; w < 6; w++) {
                    String word = WORDS.get(random.nextInt(WORDS.size()));
                    wanted.merge(word, 1L, Long::sum);
                    line.append(w == 0 ? "" : " ").append(random.nextBoolean() ? word : word.toUpperCase(Locale.ROOT));
                }
                sent.add(producer.send(new ProducerRecord<>(input, i % PARTITIONS, null, line.toString())));
            }
            for (Future<?> one : sent) get(one);
        }
    }

    /** The last value of every key of a topic. */
    private Map<String, Long> last(String topic) throws Exception {
        Map<String, Long> values = new HashMap<>();
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap);
        try (Consumer<String, Long> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new LongDeserializer())) {
            List<TopicPartition> all = consumer.partitionsFor(topic).stream().map(one -> new TopicPartition(topic, one.partition())).toList();
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            eventually("the topic is read", () -> {
                for (ConsumerRecord<String, Long> record : consumer.poll(Duration.ofMillis(100))) values.put(record.key(), record.value());
                return all.stream().allMatch(one -> consumer.position(one) >= ends.get(one));
            });
        }
        return values;
    }

    private void counted(WordCount... instances) throws Exception {
        for (WordCount one : instances) eventually("the application runs", one::running);
        eventually("the output has the right counts", () -> {
            for (WordCount one : instances) one.running();
            return last(output).equals(wanted);
        });
    }

    private void stored() throws Exception {
        eventually("the store has the right counts", () -> running.counts().equals(wanted));
    }

    private void count() throws Exception {
        write(2_000);
        running = start(state);
        counted(running);
        stored();
    }

    private void internalTopics() throws Exception {
        var topics = get(admin.describeTopics(List.of(changelog, repartition)).allTopicNames());
        same(topics.get(changelog).partitions().size(), PARTITIONS, "partitions of the changelog");
        same(topics.get(repartition).partitions().size(), PARTITIONS, "partitions of the repartition topic");
        same(config(changelog, "cleanup.policy"), "compact", "the changelog's clean-up");
        same(config(repartition, "cleanup.policy"), "delete", "the repartition topic's clean-up");
        same(config(repartition, "retention.ms"), "-1", "the repartition topic's retention");
    }

    private String config(String topic, String name) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return get(admin.describeConfigs(List.of(resource)).all()).get(resource).get(name).value();
    }

    private void group() throws Exception {
        ConsumerGroupDescription group = get(admin.describeConsumerGroups(List.of(application)).all()).get(application);
        same(group.groupState(), GroupState.STABLE, "state");
        same(group.partitionAssignor(), "stream", "assignor");
        same(group.members().size(), 2, "members: one for each thread");
        Set<String> topics = group.members().stream().flatMap(one -> one.assignment().topicPartitions().stream()).map(TopicPartition::topic).collect(Collectors.toSet());
        same(topics, Set.of(input, repartition), "topics assigned");
    }

    private void changelog() throws Exception {
        eventually("the changelog has the counts", () -> last(changelog).equals(wanted));
    }

    private void purge() throws Exception {
        Map<TopicPartition, OffsetSpec> first = new HashMap<>(), end = new HashMap<>();
        for (int p = 0; p < PARTITIONS; p++) {
            first.put(new TopicPartition(repartition, p), OffsetSpec.earliest());
            end.put(new TopicPartition(repartition, p), OffsetSpec.latest());
        }
        eventually("the repartition topic is empty", () -> {
            var begins = get(admin.listOffsets(first).all());
            var ends = get(admin.listOffsets(end).all());
            return ends.entrySet().stream().allMatch(one -> begins.get(one.getKey()).offset() == one.getValue().offset())
                && ends.values().stream().mapToLong(one -> one.offset()).sum() == wanted.values().stream().mapToLong(Long::longValue).sum();
        });
    }

    private void restartWithNothing() throws Exception {
        running.close();
        remove(state);
        write(1_000);
        running = start(state);
        counted(running);
        // Every word was in the changelog at least once; compaction may have removed the rest.
        check(running.restored() >= WORDS.size(), "the changelog was read: " + running.restored());
        stored();
        changelog();
    }

    private void restartWithState() throws Exception {
        running.close();
        running = start(state);
        write(500);
        counted(running);
        same(running.restored(), 0L, "records restored");
        stored();
    }

    private void twoInstances() throws Exception {
        try (WordCount second = start(state.resolveSibling("state-2"))) {
            eventually("the second has work", () -> running.running() && second.running() && !second.counts().isEmpty());
            write(500);
            counted(running, second);
        }
        eventually("the first has everything", () -> running.running() && running.counts().equals(wanted));
        write(200);
        counted(running);
        stored();
    }

    // ---- helpers

    private interface Body { void run() throws Exception; }

    private void test(String name, Body body) {
        long started = System.nanoTime();
        try {
            body.run();
            passed++;
            System.out.printf("ok streams: %s (%.2f s)%n", name, (System.nanoTime() - started) / 1e9);
        } catch (Exception | AssertionError error) {
            failed++;
            System.out.printf("FAILED streams: %s (%.2f s): %s%s%n", name, (System.nanoTime() - started) / 1e9, error,
                Optional.ofNullable(error.getCause()).map(cause -> ": " + cause).orElse(""));
            if (System.getenv("COMPAT_LOG") != null) error.printStackTrace(System.out);
        }
    }

    private static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError("does not hold: " + what);
    }

    private static void same(Object got, Object wanted, String what) {
        if (!wanted.equals(got)) throw new AssertionError(what + ": expected " + wanted + ", got " + got);
    }

    private static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "in time: " + what);
            Thread.sleep(100);
        }
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
    }

    private static void remove(Path directory) throws IOException {
        try (Stream<Path> files = Files.walk(directory)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) Files.delete(file);
        }
    }
}
