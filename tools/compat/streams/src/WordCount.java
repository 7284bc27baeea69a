import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.InvalidStateStoreException;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** The well-known example, as an application with a state directory of its own. */
final class WordCount implements AutoCloseable {
    static final String STORE = "counts";

    private final KafkaStreams streams;
    private final AtomicLong restored = new AtomicLong();
    private final Map<String, Throwable> failures = new ConcurrentHashMap<>();

    WordCount(String application, String input, String output, Path state) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(input, Consumed.with(Serdes.String(), Serdes.String()))
            .flatMapValues(line -> Arrays.asList(line.toLowerCase(Locale.ROOT).split("\\W+")))
            .groupBy((key, word) -> word, Grouped.with("words", Serdes.String(), Serdes.String()))
            .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as(STORE).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()))
            .toStream()
            .to(output, Produced.with(Serdes.String(), Serdes.Long()));
        Properties properties = new Properties();
        properties.putAll(Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, application,
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BOOTSTRAP"),
            StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE,
            StreamsConfig.STATE_DIR_CONFIG, state.toString(),
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
            StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200,
            StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 500,
            "auto.offset.reset", "earliest"));
        // Streams does not leave its group when it is closed; the next one begins when this session has ended.
        properties.putAll(Map.of("session.timeout.ms", 6_000, "heartbeat.interval.ms", 1_000));
        streams = new KafkaStreams(builder.build(), properties);
        streams.setGlobalStateRestoreListener(new Restorations());
        streams.setUncaughtExceptionHandler(failure -> {
            failures.put(Thread.currentThread().getName(), failure);
            return StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
    }

    boolean running() throws Exception {
        for (Throwable failure : failures.values()) throw new IllegalStateException("the application has failed", failure);
        return streams.state() == KafkaStreams.State.RUNNING;
    }

    /** How many records came out of changelog topics since the start. */
    long restored() {
        return restored.get();
    }

    /** The counts as the stores tell them, all partitions together; none while partitions move between instances. */
    Map<String, Long> counts() {
        Map<String, Long> counts = new HashMap<>();
        try (KeyValueIterator<String, Long> all =
                streams.store(StoreQueryParameters.fromNameAndType(STORE, QueryableStoreTypes.<String, Long>keyValueStore())).all()) {
            all.forEachRemaining(one -> counts.put(one.key, one.value));
        } catch (InvalidStateStoreException moving) {
            return Map.of();
        }
        return counts;
    }

    @Override
    public void close() {
        if (!streams.close(Duration.ofSeconds(30))) throw new IllegalStateException("the application did not close within 30 s");
    }

    private final class Restorations implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {}

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long last, long count) {
            restored.addAndGet(count);
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {}
    }
}
