import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Members of a group of the new protocol (KIP-848) that read and commit until standard input is closed, and log what happens to them: the same as
 * scenarios/faults/committing.py; groups.py there has the words.
 * usage: committing GROUP TOPIC MEMBERS LOG
 */
public final class Committing {
    private static final long COMMIT_NANOS = 100_000_000;

    private final AtomicBoolean stop = new AtomicBoolean();
    private final BufferedWriter log;
    private final String group;
    private final String topic;

    private Committing(String group, String topic, Path log) throws IOException {
        this.group = group;
        this.topic = topic;
        this.log = Files.newBufferedWriter(log);
    }

    public static void main(String[] args) throws Exception {
        Committing group = new Committing(args[1], args[2], Path.of(args[4]));
        List<Thread> members = new ArrayList<>();
        for (int number = 0; number < Integer.parseInt(args[3]); number++) {
            int member = number;
            members.add(new Thread(() -> group.member(member)));
        }
        members.forEach(Thread::start);
        StandardInput.awaitEnd();
        group.stop.set(true);
        for (Thread member : members) {
            member.join();
        }
        System.exit(0);
    }

    private synchronized void say(Object... words) {
        try {
            StringBuilder line = new StringBuilder();
            for (Object word : words) {
                line.append(line.isEmpty() ? "" : " ").append(word);
            }
            log.write(line.append('\n').toString());
            log.flush();
        } catch (IOException problem) {
            throw new UncheckedIOException(problem);
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(int number) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", System.getenv("BOOTSTRAP"));
        properties.put("group.id", group);
        properties.put("client.id", group + "-" + number);
        properties.put("group.protocol", "consumer");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("request.timeout.ms", "10000");
        properties.put("default.api.timeout.ms", "20000");
        properties.put("reconnect.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "200");
        properties.put("fetch.max.wait.ms", "100");
        properties.put("metadata.max.age.ms", "1000");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private void member(int number) {
        Map<TopicPartition, OffsetAndMetadata> read = new HashMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(number)) {
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    partitions.forEach(p -> say("assigned", number, p.partition()));
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    partitions.forEach(read::remove);
                }
            });
            long committed = System.nanoTime();
            while (!stop.get()) {
                try {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(50))) {
                        String[] value = new String(record.value(), StandardCharsets.US_ASCII).split(" ", 4);
                        say("read", number, record.partition(), record.offset(), value[0], value[2]);
                        read.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    }
                    if (!read.isEmpty() && System.nanoTime() - committed >= COMMIT_NANOS) {
                        commit(consumer, number, read);
                        committed = System.nanoTime();
                    }
                } catch (RetriableException | CommitFailedException passing) {
                    // A later commit says the same; a member that the group has gone on without joins again by itself.
                } catch (KafkaException problem) {
                    say("error", number, problem.toString().replace('\n', ' '));
                }
            }
        } catch (RuntimeException problem) {
            say("error", number, problem.toString().replace('\n', ' '));
        }
    }

    private void commit(KafkaConsumer<byte[], byte[]> consumer, int number, Map<TopicPartition, OffsetAndMetadata> read) {
        Map<TopicPartition, OffsetAndMetadata> offsets = Map.copyOf(read);
        offsets.forEach((p, offset) -> say("trying", number, p.partition(), offset.offset()));
        consumer.commitSync(offsets);
        offsets.forEach((p, offset) -> {
            say("committed", number, p.partition(), offset.offset());
            read.remove(p, offset);
        });
    }
}
