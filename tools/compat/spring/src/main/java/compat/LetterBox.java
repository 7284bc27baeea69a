package compat;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.stereotype.Component;

/** The listeners, and what they have received. */
@Component
class LetterBox {
    final List<Received> letters = new CopyOnWriteArrayList<>();
    final List<Received> dead = new CopyOnWriteArrayList<>();
    private final AtomicInteger attempts;

    LetterBox(AtomicInteger attempts) {
        this.attempts = attempts;
    }

    @KafkaListener(id = "letters", groupId = "${app.group}", topics = "${app.topic}", concurrency = "2")
    void receive(ConsumerRecord<String, Letter> record) {
        if (record.value().to().equals("nobody")) {
            attempts.incrementAndGet();
            throw new IllegalArgumentException("nobody lives here");
        }
        letters.add(new Received(record.key(), record.value(), record.partition(), record.offset(), null));
    }

    @KafkaListener(id = "dead", groupId = "${app.group}-dead", topics = "${app.topic}-dlt")
    void bury(ConsumerRecord<String, Letter> record, @Header(KafkaHeaders.DLT_EXCEPTION_MESSAGE) byte[] exception) {
        dead.add(new Received(record.key(), record.value(), record.partition(), record.offset(), new String(exception, StandardCharsets.UTF_8)));
    }
}
