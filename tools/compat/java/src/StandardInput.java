import java.io.IOException;
import java.util.concurrent.atomic.AtomicBoolean;

/** How scenarios tell their clients that it is enough: by closing their standard input. */
final class StandardInput {
    private StandardInput() {}

    /** Set as soon as standard input is closed. */
    static AtomicBoolean closed() {
        AtomicBoolean closed = new AtomicBoolean();
        Thread input = new Thread(() -> {
            awaitEnd();
            closed.set(true);
        });
        input.setDaemon(true);
        input.start();
        return closed;
    }

    /** Returns when standard input is closed. */
    static void awaitEnd() {
        try {
            System.in.readAllBytes();
        } catch (IOException closed) {
            // The same as its end.
        }
    }
}
