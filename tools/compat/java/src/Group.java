import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.serialization.StringSerializer;

/** One consumer group of a test: its topic, its members, what was written for it and what it has read. */
final class Group implements AutoCloseable {
    final String id;
    final String topic;
    final Admin admin;
    private final Map<String, String> config;
    private final Set<TopicPartition> partitions = new HashSet<>();
    private final Owners owners = new Owners();
    private final List<Member> members = new ArrayList<>();
    private final Map<String, String> written = new HashMap<>();
    private final Map<String, String> read = new ConcurrentHashMap<>();
    private final KafkaProducer<String, String> producer =
        new KafkaProducer<>(Map.of("bootstrap.servers", Suite.BOOTSTRAP), new StringSerializer(), new StringSerializer());
    private int joined;

    /** A group of its own with a new topic; `config` is every member's. */
    Group(Suite suite, String name, int partitionCount, Map<String, String> config) throws Exception {
        this.id = Suite.PREFIX + "-group-" + name;
        this.topic = suite.topic(name, partitionCount);
        this.admin = suite.admin;
        this.config = new HashMap<>(Map.of("group.id", id));
        this.config.putAll(config);
        include(topic, partitionCount);
    }

    /** From now on these partitions are to be owned and read too. */
    void include(String topic, int partitionCount) {
        for (int p = 0; p < partitionCount; p++) partitions.add(new TopicPartition(topic, p));
    }

    Member join(Map<String, String> extra) {
        return join(extra, Member.names(topic));
    }

    Member join(Map<String, String> extra, Member.Subscription subscription) {
        Map<String, String> all = new HashMap<>(config);
        all.putAll(extra);
        Member member = new Member(id + "-" + (char) ('a' + joined++), all, owners, subscription,
            record -> read.put(record.topic() + "/" + record.partition() + "@" + record.offset(), record.value()));
        members.add(member);
        return member;
    }

    /** Waits until exactly these members own the partitions: each one some, together all, none two the same at any time. */
    void settled(Duration within, Member... living) throws Exception {
        Set<String> names = Set.of(living).stream().map(member -> member.name).collect(Collectors.toSet());
        Suite.eventually(names.size() + " members share " + partitions.size() + " partitions", within, () -> {
            for (Member member : living) if (member.error != null) throw member.error;
            Map<TopicPartition, String> now = owners.all();
            return now.keySet().equals(partitions) && Set.copyOf(now.values()).equals(names);
        });
        Suite.check(owners.conflicts().isEmpty(), "no partition has two owners: " + owners.conflicts());
    }

    void settled(Member... living) throws Exception {
        settled(Suite.DEADLINE, living);
    }

    /** As `settled`, and nobody has over one partition more than anybody else. */
    void balanced(Member... living) throws Exception {
        Suite.eventually(living.length + " members share evenly", () -> {
            settled(living);
            int most = Integer.MIN_VALUE, least = Integer.MAX_VALUE;
            for (Member member : living) {
                most = Math.max(most, member.owned().size());
                least = Math.min(least, member.owned().size());
            }
            return most - least <= 1;
        });
    }

    /** Writes so many records to every partition of the group. */
    void produce(int perPartition) throws Exception {
        Map<Future<RecordMetadata>, String> sent = new HashMap<>();
        for (TopicPartition partition : partitions) {
            for (int i = 0; i < perPartition; i++) {
                String value = partition + " " + written.size() + " " + i;
                sent.put(producer.send(new ProducerRecord<>(partition.topic(), partition.partition(), null, value)), value);
            }
        }
        producer.flush();
        for (Map.Entry<Future<RecordMetadata>, String> one : sent.entrySet()) {
            RecordMetadata where = Suite.get(one.getKey());
            written.put(where.topic() + "/" + where.partition() + "@" + where.offset(), one.getValue());
        }
    }

    /** Waits until the members have read everything that was written. */
    void readAll() throws Exception {
        Suite.eventually("everything written is read", () -> read.size() >= written.size());
        Suite.check(read.equals(written), "the records read are the ones written");
    }

    /** Waits until the group has committed the end of every partition. */
    void committedAll() throws Exception {
        Map<TopicPartition, Long> ends = new HashMap<>();
        for (TopicPartition partition : partitions) {
            long end = written.keySet().stream().filter(key -> key.startsWith(partition.topic() + "/" + partition.partition() + "@")).count();
            if (end > 0) ends.put(partition, end);
        }
        Suite.eventually("the end of every partition is committed", () -> committed().equals(ends));
    }

    Map<TopicPartition, Long> committed() throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = Suite.get(admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata());
        return offsets.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, entry -> entry.getValue().offset()));
    }

    ConsumerGroupDescription describe() throws Exception {
        return Suite.get(admin.describeConsumerGroups(List.of(id)).describedGroups().get(id));
    }

    /** The members' assignments that the coordinator tells are the ones that the members have. */
    void describedAsOwned(Member... living) throws Exception {
        ConsumerGroupDescription description = describe();
        Suite.same(description.members().size(), living.length, "members described");
        for (Member member : living) {
            MemberDescription told = description.members().stream().filter(one -> one.clientId().equals(member.name)).findFirst().orElseThrow();
            Suite.same(told.assignment().topicPartitions(), member.owned(), "the assignment of " + member.name);
            Suite.check(told.host().contains("127.0.0.1"), "the member's host: " + told.host());
        }
    }

    /** Deletes the group, which must be empty; afterwards it is unknown. */
    void delete() throws Exception {
        Suite.get(admin.deleteConsumerGroups(List.of(id)).all());
        Suite.refused(GroupIdNotFoundException.class, this::describe);
        Suite.refused(GroupIdNotFoundException.class, () -> Suite.get(admin.deleteConsumerGroups(List.of(id)).all()));
    }

    @Override
    public void close() {
        producer.close();
        for (Member member : members) {
            try {
                member.close();
            } catch (Exception | AssertionError late) {
                System.out.println(member.name + " did not end: " + late);
            }
        }
    }
}
