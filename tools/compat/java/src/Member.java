import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CloseOptions.GroupMembershipOperation;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** One member of a consumer group, which polls on a thread of its own until it leaves or dies. */
final class Member {
    final String name;
    /** How many partitions have been revoked since the start, and how many times any were assigned. */
    final AtomicInteger revoked = new AtomicInteger();
    final AtomicInteger assignments = new AtomicInteger();
    /** What polling ended with, if not with leaving. */
    volatile Exception error;

    private final Owners owners;
    private final java.util.function.Consumer<ConsumerRecord<String, String>> onRecord;
    private final Map<String, Object> config;
    private final Queue<Errand> errands = new ConcurrentLinkedQueue<>();
    private final Thread thread;
    private volatile GroupMembershipOperation end;

    private interface Errand { void run(Consumer<String, String> consumer); }

    /** How a member subscribes: to names or to a pattern, always with the listener. */
    interface Subscription { void to(Consumer<String, String> consumer, ConsumerRebalanceListener listener); }

    static Subscription names(String... topics) {
        return (consumer, listener) -> consumer.subscribe(List.of(topics), listener);
    }

    Member(String name, Map<String, String> config, Owners owners, Subscription subscription, java.util.function.Consumer<ConsumerRecord<String, String>> onRecord) {
        this.name = name;
        this.owners = owners;
        this.onRecord = onRecord;
        this.config = new HashMap<>(Map.of("bootstrap.servers", Suite.BOOTSTRAP, "client.id", name, "auto.offset.reset", "earliest",
            "auto.commit.interval.ms", "200", "metadata.max.age.ms", "1000", "retry.backoff.max.ms", "200"));
        this.config.putAll(config);
        this.thread = new Thread(() -> run(subscription), name);
        thread.start();
    }

    private void run(Subscription subscription) {
        Consumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        try {
            subscription.to(consumer, new Listener());
            while (end == null) {
                for (Errand errand; (errand = errands.poll()) != null;) errand.run(consumer);
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<String, String> record : records) onRecord.accept(record);
            }
        } catch (Exception refused) {
            error = refused;
        } finally {
            if (end == GroupMembershipOperation.REMAIN_IN_GROUP) owners.releaseAll(name);
            GroupMembershipOperation operation = end == null ? GroupMembershipOperation.DEFAULT : end;
            consumer.close(CloseOptions.groupMembershipOperation(operation).withTimeout(Duration.ofSeconds(20)));
            owners.releaseAll(name);
        }
    }

    /** Does something with the consumer on the member's thread, between two polls. */
    <T> T ask(Function<Consumer<String, String>, T> question) throws Exception {
        CompletableFuture<T> answer = new CompletableFuture<>();
        errands.add(consumer -> {
            try {
                answer.complete(question.apply(consumer));
            } catch (Exception refused) {
                answer.completeExceptionally(refused);
            }
        });
        return Suite.get(answer);
    }

    Set<TopicPartition> owned() {
        return owners.of(name);
    }

    /** Says good-bye; a static member does not, it keeps its place until its session ends. */
    void close() throws Exception {
        end(GroupMembershipOperation.DEFAULT);
    }

    /** Stops without a word: to the broker it looks as if the process had been killed. */
    void die() throws Exception {
        end(GroupMembershipOperation.REMAIN_IN_GROUP);
    }

    private void end(GroupMembershipOperation how) throws Exception {
        if (end == null) end = how;
        thread.join(Suite.DEADLINE.toMillis());
        Suite.check(!thread.isAlive(), name + " ends in time");
    }

    private final class Listener implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            owners.claim(name, partitions);
            assignments.incrementAndGet();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            owners.release(name, partitions);
            revoked.addAndGet(partitions.size());
        }
    }
}
