import java.io.BufferedWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads all partitions from their start until standard input is closed, from the replicas in its rack where there are any, and logs what it has read; the same
 * as scenarios/follow.py.
 * usage: follow TOPIC PARTITIONS RACK LOG
 */
public final class Follow {
    public static void main(String[] args) throws Exception {
        AtomicBoolean stop = StandardInput.closed();
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", System.getenv("BOOTSTRAP"), "client.rack", args[3], "enable.auto.commit", "false",
            "auto.offset.reset", "none", "metadata.max.age.ms", "2000", "reconnect.backoff.ms", "20", "reconnect.backoff.max.ms", "200", "retry.backoff.ms", "20"));
        List<TopicPartition> all = IntStream.range(0, Integer.parseInt(args[2])).mapToObj(p -> new TopicPartition(args[1], p)).toList();
        try (BufferedWriter log = Files.newBufferedWriter(Path.of(args[4]));
             KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(all);
            for (TopicPartition partition : all) consumer.seek(partition, 0);
            while (!stop.get()) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) log.write(record.partition() + " " + record.offset() + "\n");
                log.flush();
            }
        }
    }
}
