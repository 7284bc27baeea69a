import java.io.BufferedWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes numbered records until standard input is closed, and logs what was acknowledged; the same as scenarios/load.py.
 * usage: load NAME TOPIC PARTITIONS RATE ACKLOG
 */
public final class Load {
    public static void main(String[] args) throws Exception {
        String name = args[1], topic = args[2];
        int partitions = Integer.parseInt(args[3]);
        double rate = Double.parseDouble(args[4]);
        Properties properties = new Properties();
        properties.put("bootstrap.servers", System.getenv("BOOTSTRAP"));
        properties.put("enable.idempotence", "true");
        properties.put("acks", "all");
        properties.put("linger.ms", "2");
        properties.put("max.in.flight.requests.per.connection", System.getenv().getOrDefault("LOAD_IN_FLIGHT", "5"));
        properties.put("delivery.timeout.ms", "2000000");
        properties.put("request.timeout.ms", "10000");
        properties.put("max.block.ms", "600000");
        properties.put("reconnect.backoff.ms", "20");
        properties.put("reconnect.backoff.max.ms", "200");
        properties.put("retry.backoff.ms", "20");
        AtomicBoolean stop = StandardInput.closed();
        AtomicLong failed = new AtomicLong();
        String padding = "x".repeat(100);
        long sent = 0;
        try (BufferedWriter log = Files.newBufferedWriter(Path.of(args[5]));
             KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
            long started = System.nanoTime();
            while (!stop.get()) {
                long due = (long) ((System.nanoTime() - started) / 1e9 * rate);
                // Not further ahead than the producer's buffer comfortably holds while the broker is away.
                for (int burst = 0; sent < due && burst < 10_000; burst++, sent++) {
                    int partition = (int) (sent % partitions);
                    long sequence = sent / partitions;
                    byte[] value = (name + " " + partition + " " + sequence + " " + padding).getBytes(StandardCharsets.US_ASCII);
                    producer.send(new ProducerRecord<>(topic, partition, null, value), (metadata, error) -> {
                        if (error != null) {
                            failed.incrementAndGet();
                            System.err.println(name + ": not delivered: " + partition + " " + sequence + ": " + error);
                            return;
                        }
                        try {
                            log.write(partition + " " + sequence + " " + metadata.offset() + "\n");
                            log.flush();
                        } catch (IOException problem) {
                            throw new UncheckedIOException(problem);
                        }
                    });
                }
                Thread.sleep(5);
            }
            producer.flush();
        }
        System.err.println(name + ": " + sent + " sent, " + failed + " failed");
        System.exit(failed.get() == 0 ? 0 : 1);
    }
}
