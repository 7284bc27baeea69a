import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;

/** What every suite needs: an admin client, topics, tests that are counted, and conditions that are waited for. */
abstract class Suite implements AutoCloseable {
    /** How long anything may take that does not wait for a session to end. */
    static final Duration DEADLINE = Duration.ofSeconds(60);
    static final Map<String, String> KEEP_EVERYTHING = Map.of("retention.ms", "-1");

    static final String BOOTSTRAP = System.getenv("BOOTSTRAP");
    static final int REPLICATION_FACTOR = Integer.parseInt(System.getenv().getOrDefault("REPLICATION_FACTOR", "1"));
    /** Begins the name of every topic and group, so that runs against one broker do not meet. */
    static final String PREFIX = "java-" + ProcessHandle.current().pid() + "-" + System.currentTimeMillis() % 100_000_000;

    final Admin admin = Admin.create(Map.of("bootstrap.servers", BOOTSTRAP));
    private final AtomicInteger passed = new AtomicInteger();
    private final AtomicInteger failed = new AtomicInteger();

    interface Body { void run() throws Exception; }

    record Case(String name, Body body) {}

    int passed() {
        return passed.get();
    }

    int failed() {
        return failed.get();
    }

    @Override
    public void close() {
        admin.close();
    }

    void test(String name, Body body) {
        long started = System.nanoTime();
        try {
            body.run();
            passed.incrementAndGet();
            System.out.printf("ok java: %s (%.2f s)%n", name, (System.nanoTime() - started) / 1e9);
        } catch (Exception | AssertionError error) {
            failed.incrementAndGet();
            System.out.printf("FAILED java: %s (%.2f s): %s%n", name, (System.nanoTime() - started) / 1e9, error);
            if (System.getenv("COMPAT_LOG") != null) error.printStackTrace(System.out);
        }
    }

    /** All at the same time: what they do most is to wait for heartbeats and for sessions to end. */
    void together(List<Case> cases) {
        List<Thread> threads = cases.stream().map(one -> new Thread(() -> test(one.name, one.body))).toList();
        threads.forEach(Thread::start);
        try {
            for (Thread thread : threads) thread.join();
        } catch (InterruptedException stopped) {
            throw new IllegalStateException(stopped);
        }
    }

    void createTopic(String name, int partitions, int replication, Map<String, String> config) throws Exception {
        get(admin.createTopics(List.of(new NewTopic(name, partitions, (short) replication).configs(config))).all());
    }

    String topic(String suffix, int partitions) throws Exception {
        String name = PREFIX + "-" + suffix;
        createTopic(name, partitions, REPLICATION_FACTOR, KEEP_EVERYTHING);
        // A partition that is not ready yet loses records with acks=0, and puts them out of order without idempotence.
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int p = 0; p < partitions; p++) ends.put(new TopicPartition(name, p), OffsetSpec.latest());
        eventually("the topic is ready", () -> {
            try {
                return get(admin.listOffsets(ends).all()).size() == partitions;
            } catch (RetriableException notYet) {
                return false;
            }
        });
        return name;
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError("does not hold: " + what);
    }

    static void same(Object got, Object wanted, String what) {
        if (!wanted.equals(got)) throw new AssertionError(what + ": expected " + wanted + ", got " + got);
    }

    /** The error that `what` is refused with, so that its words can be looked at. */
    static Exception refused(Class<? extends Exception> with, Callable<?> what) throws Exception {
        try {
            what.call();
        } catch (Exception error) {
            check(with.isInstance(error), with.getSimpleName() + " expected, got " + error);
            return error;
        }
        throw new AssertionError(with.getSimpleName() + " expected, but it was accepted");
    }

    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        eventually(what, DEADLINE, condition);
    }

    static void eventually(String what, Duration within, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + within.toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "in time: " + what);
            Thread.sleep(50);
        }
    }

    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(DEADLINE.toSeconds(), TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            throw error.getCause() instanceof Exception cause ? cause : error;
        }
    }
}
