import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member in a process of its own, to be killed: the new consumer says good-bye in every other way to end it. */
final class OtherProcess implements AutoCloseable {
    private final Process process;
    private final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();

    OtherProcess(String group, String topic, Map<String, String> config) throws IOException {
        List<String> command = new ArrayList<>(List.of(ProcessHandle.current().info().command().orElse("java"), "-Xmx64m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp", System.getProperty("java.class.path"), "OtherProcess", group, topic));
        config.forEach((name, value) -> command.add(name + "=" + value));
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        Thread reader = new Thread(this::listen);
        reader.setDaemon(true);
        reader.start();
    }

    private void listen() {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = lines.readLine()) != null;) {
                String[] word = line.split(" ");
                TopicPartition partition = new TopicPartition(word[1], Integer.parseInt(word[2]));
                if (word[0].equals("+")) owned.add(partition);
                else owned.remove(partition);
            }
        } catch (IOException killed) {
            // What it owned at last is known.
        }
    }

    Set<TopicPartition> owned() {
        return Set.copyOf(owned);
    }

    void kill() throws Exception {
        process.destroyForcibly();
        process.waitFor();
    }

    @Override
    public void close() {
        process.destroyForcibly();
    }

    /** The member itself, which tells on standard output what it is given and what is taken. usage: GROUP TOPIC NAME=VALUE... */
    public static void main(String[] args) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", Suite.BOOTSTRAP, "group.id", args[0], "auto.offset.reset", "earliest"));
        for (int i = 2; i < args.length; i++) config.put(args[i].split("=")[0], args[i].split("=")[1]);
        try (Consumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    partitions.forEach(one -> System.out.println("+ " + one.topic() + " " + one.partition()));
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    partitions.forEach(one -> System.out.println("- " + one.topic() + " " + one.partition()));
                }
            });
            // Not longer than the one who is to kill it would wait.
            long deadline = System.nanoTime() + Duration.ofMinutes(5).toNanos();
            while (System.nanoTime() < deadline) consumer.poll(Duration.ofMillis(200));
        }
    }
}
