package compat;

import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.NewTopic;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.CommonErrorHandler;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/** Letters come in by REST, go through a topic, and are received by a group of listeners. */
@SpringBootApplication
public class Application {
    static final int PARTITIONS = 3;
    private static final int REPLICAS = Integer.parseInt(System.getenv().getOrDefault("REPLICATION_FACTOR", "1"));

    public static void main(String[] args) {
        SpringApplication.run(Application.class, args);
    }

    @Bean
    NewTopic letters(@Value("${app.topic}") String topic) {
        return TopicBuilder.name(topic).partitions(PARTITIONS).replicas(REPLICAS).config("retention.ms", "-1").build();
    }

    @Bean
    NewTopic deadLetters(@Value("${app.topic}") String topic) {
        return TopicBuilder.name(topic + "-dlt").partitions(PARTITIONS).replicas(REPLICAS).config("retention.ms", "-1").build();
    }

    /** Three attempts, then the letter goes to the dead ones. */
    @Bean
    CommonErrorHandler errors(KafkaTemplate<Object, Object> template) {
        return new DefaultErrorHandler(new DeadLetterPublishingRecoverer(template), new FixedBackOff(20, 2));
    }

    /** How often the listener has been called, also in vain. */
    @Bean
    AtomicInteger attempts() {
        return new AtomicInteger();
    }
}
