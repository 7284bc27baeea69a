package compat;

import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.http.HttpStatus;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.MessageListenerContainer;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.PutMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.ResponseStatus;
import org.springframework.web.bind.annotation.RestController;

/** The application's face: letters go in, and what has become of them is told. */
@RestController
class LetterController {
    private final KafkaTemplate<Object, Object> template;
    private final KafkaListenerEndpointRegistry listeners;
    private final KafkaAdmin admin;
    private final LetterBox box;
    private final AtomicInteger attempts;
    private final String topic;
    private final String group;

    LetterController(KafkaTemplate<Object, Object> template, KafkaListenerEndpointRegistry listeners, KafkaAdmin admin, LetterBox box,
        AtomicInteger attempts, @Value("${app.topic}") String topic, @Value("${app.group}") String group) {
        this.template = template;
        this.listeners = listeners;
        this.admin = admin;
        this.box = box;
        this.attempts = attempts;
        this.topic = topic;
        this.group = group;
    }

    record Place(int partition, long offset) {}

    @PostMapping("/letters")
    @ResponseStatus(HttpStatus.CREATED)
    Place post(@RequestBody Letter letter) throws Exception {
        RecordMetadata where = template.send(topic, letter.to(), letter).get(30, TimeUnit.SECONDS).getRecordMetadata();
        return new Place(where.partition(), where.offset());
    }

    @GetMapping("/letters")
    List<Received> letters() {
        return box.letters;
    }

    @GetMapping("/dead")
    List<Received> dead() {
        return box.dead;
    }

    @GetMapping("/attempts")
    int attempts() {
        return attempts.get();
    }

    @GetMapping("/topic")
    Map<String, Integer> topic() {
        return admin.describeTopics(topic, topic + "-dlt").values().stream().collect(Collectors.toMap(one -> one.name(), one -> one.partitions().size()));
    }

    @GetMapping("/listener")
    List<Integer> assigned() {
        MessageListenerContainer container = listeners.getListenerContainer("letters");
        if (container == null || !container.isRunning() || container.getAssignedPartitions() == null) return List.of();
        return container.getAssignedPartitions().stream().map(TopicPartition::partition).sorted().toList();
    }

    @PutMapping("/listener/{what}")
    void listener(@PathVariable String what) {
        MessageListenerContainer container = listeners.getListenerContainer("letters");
        if (what.equals("start")) container.start();
        else container.stop();
    }

    /** The committed offset of each partition that has one. */
    @GetMapping("/committed")
    Map<Integer, Long> committed() throws Exception {
        try (Admin client = Admin.create(admin.getConfigurationProperties())) {
            Map<TopicPartition, OffsetAndMetadata> all = client.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(30, TimeUnit.SECONDS);
            Map<Integer, Long> offsets = new TreeMap<>();
            all.forEach((partition, offset) -> offsets.put(partition.partition(), offset.offset()));
            return offsets;
        }
    }
}
