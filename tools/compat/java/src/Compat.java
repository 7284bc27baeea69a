import java.util.List;
import java.util.Map;

/**
 * What the Java client has to show.
 * usage: suite DATA NULLS | groups | admin | write TOPIC COMPRESSION DATA | read TOPIC
 */
public final class Compat {
    public static void main(String[] args) throws Exception {
        boolean ok = true;
        try (Clients clients = new Clients()) {
            switch (args[0]) {
                case "suite" -> ok = suite(clients, args[1], args[2]);
                case "groups" -> ok = groups();
                case "admin" -> ok = administration();
                case "write" -> clients.produce(args[1], Row.load(args[3]), Map.of("compression.type", args[2]));
                case "read" -> clients.dump(args[1]);
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
        System.exit(ok ? 0 : 1);
    }

    /** The groups beside everything else, because most of their time is waiting. */
    private static boolean suite(Clients clients, String data, String nulls) throws Exception {
        try (ClassicGroups classic = new ClassicGroups(); ConsumerGroups consumer = new ConsumerGroups(); Administration admin = new Administration()) {
            Thread background = new Thread(() -> together(classic, consumer));
            background.start();
            clients.suite(Row.load(data), Row.load(nulls));
            admin.suite();
            background.join();
            return verdict(List.of(clients, admin, classic, consumer));
        }
    }

    private static boolean groups() {
        try (ClassicGroups classic = new ClassicGroups(); ConsumerGroups consumer = new ConsumerGroups()) {
            together(classic, consumer);
            return verdict(List.of(classic, consumer));
        }
    }

    private static boolean administration() throws Exception {
        try (Administration admin = new Administration()) {
            admin.suite();
            return verdict(List.of(admin));
        }
    }

    private static void together(ClassicGroups classic, ConsumerGroups consumer) {
        Thread beside = new Thread(classic::suite);
        beside.start();
        consumer.suite();
        try {
            beside.join();
        } catch (InterruptedException stopped) {
            throw new IllegalStateException(stopped);
        }
    }

    private static boolean verdict(List<Suite> suites) {
        int passed = suites.stream().mapToInt(Suite::passed).sum(), failed = suites.stream().mapToInt(Suite::failed).sum();
        System.out.println(passed + " passed, " + failed + " failed");
        return failed == 0;
    }
}
