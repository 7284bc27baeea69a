import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.InvalidSessionTimeoutException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Consumer groups by the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. */
final class ClassicGroups extends Suite {
    private static final Map<String, String> RANGE = classic(RangeAssignor.class);
    private static final Map<String, String> COOPERATIVE = classic(CooperativeStickyAssignor.class);
    /** The shortest session that a broker allows. */
    private static final Map<String, String> DIES_SOON = Map.of("session.timeout.ms", "6000", "heartbeat.interval.ms", "500");

    /** A session that does not end within a test: what happens in time, happens because the member has left. */
    static Map<String, String> classic(Class<?> assignor) {
        return Map.of("group.protocol", "classic", "partition.assignment.strategy", assignor.getName(), "session.timeout.ms", "180000",
            "heartbeat.interval.ms", "500");
    }

    void suite() {
        together(List.of(
            new Case("a classic group, range: members join, one dies, one leaves, everything is read", () -> life("range", RANGE)),
            new Case("a classic group, cooperative-sticky: the same, and nobody loses more than needed", () -> life("cooperative-sticky", COOPERATIVE)),
            new Case("a static member restarts without a rebalance and keeps its partitions", this::staticRestart),
            new Case("a second static member of the same name fences the first", this::staticFence),
            new Case("the admin removes static members, and all members", this::removal),
            new Case("commits with metadata, synchronous and not; another member resumes behind them", this::resume),
            new Case("a member that was late with its poll may not commit", this::staleCommit),
            new Case("what a living group does not allow is refused with Kafka's errors", this::refusals),
            new Case("a group takes up partitions and topics that are added", this::growth)));
    }

    private void life(String assignor, Map<String, String> config) throws Exception {
        boolean cooperative = config == COOPERATIVE;
        try (Group group = new Group(this, "classic-" + assignor, 6, config)) {
            Member a = group.join(Map.of());
            group.settled(a);
            group.produce(50);
            Member b = group.join(Map.of());
            group.balanced(a, b);
            same(a.revoked.get(), cooperative ? 3 : 6, "partitions that the first member had to give away");
            group.produce(50);
            Member c = group.join(DIES_SOON);
            group.balanced(a, b, c);
            group.produce(50);
            eventually("the group is stable", () -> group.describe().groupState() == GroupState.STABLE);
            ConsumerGroupDescription description = group.describe();
            same(description.type(), GroupType.CLASSIC, "type");
            same(description.partitionAssignor(), assignor, "assignor");
            check(!description.coordinator().isEmpty(), "there is a coordinator");
            group.describedAsOwned(a, b, c);
            c.die();
            same(group.describe().members().size(), 3, "members until the session ends");
            group.balanced(a, b);
            group.produce(50);
            b.close();
            group.settled(a);
            group.produce(50);
            group.readAll();
            group.committedAll();
            check(listed(GroupState.STABLE).contains(group.id), "listed as stable");
            a.close();
            same(group.describe().groupState(), GroupState.EMPTY, "state of the abandoned group");
            check(listed(GroupState.EMPTY).contains(group.id), "listed as empty");
            check(!listed(GroupState.STABLE).contains(group.id), "no longer listed as stable");
            group.committedAll();
            group.delete();
        }
    }

    private Set<String> listed(GroupState state) throws Exception {
        return get(admin.listGroups(ListGroupsOptions.forConsumerGroups().inGroupStates(Set.of(state)).withTypes(Set.of(GroupType.CLASSIC))).valid())
            .stream().map(listing -> listing.groupId()).collect(Collectors.toSet());
    }

    private void staticRestart() throws Exception {
        try (Group group = new Group(this, "static", 4, RANGE)) {
            Member a = group.join(Map.of("group.instance.id", "first"));
            Member b = group.join(Map.of("group.instance.id", "second"));
            group.balanced(a, b);
            group.produce(20);
            group.readAll();
            group.committedAll();
            Set<TopicPartition> mine = b.owned();
            int generation = a.ask(consumer -> consumer.groupMetadata().generationId());
            int assignments = a.assignments.get();
            b.close();
            Member again = group.join(Map.of("group.instance.id", "second"));
            group.settled(a, again);
            same(again.owned(), mine, "the partitions of the restarted member");
            group.produce(20);
            group.readAll();
            same(again.ask(consumer -> consumer.groupMetadata().generationId()), generation, "the restarted member's generation");
            same(a.assignments.get(), assignments, "assignments of the other member");
            Set<String> told = group.describe().members().stream().map(one -> one.groupInstanceId().orElse("none")).collect(Collectors.toSet());
            same(told, Set.of("first", "second"), "instances described");
        }
    }

    private void staticFence() throws Exception {
        try (Group group = new Group(this, "fence", 2, RANGE)) {
            Member first = group.join(Map.of("group.instance.id", "only"));
            group.settled(first);
            Member second = group.join(Map.of("group.instance.id", "only"));
            eventually("the first is fenced", () -> first.error instanceof FencedInstanceIdException);
            eventually("the second has its partitions", () -> second.owned().size() == 2);
        }
    }

    private void removal() throws Exception {
        try (Group group = new Group(this, "removal", 2, RANGE)) {
            Member a = group.join(Map.of("group.instance.id", "stays"));
            Member b = group.join(Map.of("group.instance.id", "goes"));
            group.balanced(a, b);
            b.close();
            same(group.describe().members().size(), 2, "members while the static one is away");
            get(admin.removeMembersFromConsumerGroup(group.id, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("goes")))).all());
            group.settled(a);
            refused(UnknownMemberIdException.class, () -> get(admin.removeMembersFromConsumerGroup(group.id,
                new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("goes")))).memberResult(new MemberToRemove("goes"))));
            a.die();
            get(admin.removeMembersFromConsumerGroup(group.id, new RemoveMembersFromConsumerGroupOptions()).all());
            eventually("all members are gone", () -> group.describe().groupState() == GroupState.EMPTY);
            group.delete();
        }
    }

    private void resume() throws Exception {
        try (Group group = new Group(this, "resume", 1, RANGE)) {
            group.produce(100);
            TopicPartition zero = new TopicPartition(group.topic, 0);
            try (Consumer<String, String> consumer = consumer(group, Map.of())) {
                check(consumer.committed(Set.of(zero)).get(zero) == null, "nothing is committed at first");
                same(take(consumer, 10), 0L, "the first record read");
                consumer.commitSync(Map.of(zero, new OffsetAndMetadata(37, java.util.Optional.of(0), "half past three")));
                OffsetAndMetadata committed = consumer.committed(Set.of(zero)).get(zero);
                same(committed.offset(), 37L, "the committed offset");
                same(committed.metadata(), "half past three", "its metadata");
                same(committed.leaderEpoch(), java.util.Optional.of(0), "its leader epoch");
            }
            try (Consumer<String, String> consumer = consumer(group, Map.of())) {
                same(take(consumer, 10), 37L, "the first record after the commit");
                Map<TopicPartition, OffsetAndMetadata> done = new HashMap<>();
                consumer.commitAsync(Map.of(zero, new OffsetAndMetadata(64)), (offsets, refusal) -> { if (refusal == null) done.putAll(offsets); });
                eventually("the asynchronous commit is answered", () -> { consumer.poll(Duration.ofMillis(50)); return done.containsKey(zero); });
            }
            try (Consumer<String, String> consumer = consumer(group, Map.of("auto.offset.reset", "none"))) {
                same(take(consumer, 10), 64L, "the first record after the asynchronous commit");
            }
            // Also without being a member, as long as there are none.
            try (Consumer<String, String> consumer = consumer(group, Map.of())) {
                consumer.unsubscribe();
                consumer.assign(List.of(zero));
                same(take(consumer, 1), 64L, "the first record without being a member");
                consumer.commitSync(Map.of(zero, new OffsetAndMetadata(80)));
            }
            same(group.committed(), Map.of(zero, 80L), "what the admin sees");
        }
    }

    private void staleCommit() throws Exception {
        try (Group group = new Group(this, "stale", 2, RANGE)) {
            group.produce(10);
            TopicPartition zero = new TopicPartition(group.topic, 0);
            try (Consumer<String, String> late = consumer(group, Map.of("max.poll.interval.ms", "2000"))) {
                take(late, 1);
                // From here it polls no more: it leaves the group by itself after two seconds, and somebody else gets everything.
                Member other = group.join(Map.of());
                group.settled(other);
                refused(CommitFailedException.class, () -> { late.commitSync(Map.of(zero, new OffsetAndMetadata(1))); return null; });
                group.readAll();
                group.committedAll();
                other.close();
            }
        }
    }

    private void refusals() throws Exception {
        try (Group group = new Group(this, "refusals", 2, RANGE)) {
            Member a = group.join(Map.of());
            group.settled(a);
            group.produce(5);
            group.committedAll();
            TopicPartition zero = new TopicPartition(group.topic, 0);
            Map<TopicPartition, OffsetAndMetadata> three = Map.of(zero, new OffsetAndMetadata(3));
            refused(GroupNotEmptyException.class, () -> get(admin.deleteConsumerGroups(List.of(group.id)).all()));
            refused(UnknownMemberIdException.class, () -> get(admin.alterConsumerGroupOffsets(group.id, three).all()));
            refused(GroupSubscribedToTopicException.class, () -> get(admin.deleteConsumerGroupOffsets(group.id, Set.of(zero)).partitionResult(zero)));
            refused(InconsistentGroupProtocolException.class, () -> {
                try (Consumer<String, String> consumer = consumer(group, COOPERATIVE)) { return take(consumer, 1); }
            });
            refused(InvalidSessionTimeoutException.class, () -> {
                try (Consumer<String, String> consumer = consumer(group, Map.of("session.timeout.ms", "5999"))) { return take(consumer, 1); }
            });
            try (Consumer<String, String> stranger = consumer(group, Map.of())) {
                stranger.unsubscribe();
                stranger.assign(List.of(zero));
                refused(CommitFailedException.class, () -> { stranger.commitSync(three); return null; });
            }
            group.committedAll();
            group.settled(a);
        }
    }

    private void growth() throws Exception {
        try (Group group = new Group(this, "growth", 2, COOPERATIVE)) {
            // Without commits: the client would try for minutes to commit for the deleted topic before it gives it up.
            Map<String, String> quiet = Map.of("enable.auto.commit", "false");
            Pattern pattern = Pattern.compile(Pattern.quote(group.topic) + "(-more)?");
            Member a = group.join(quiet, (consumer, listener) -> consumer.subscribe(pattern, listener));
            Member b = group.join(quiet, (consumer, listener) -> consumer.subscribe(pattern, listener));
            group.balanced(a, b);
            get(admin.createPartitions(Map.of(group.topic, NewPartitions.increaseTo(5))).all());
            group.include(group.topic, 5);
            group.balanced(a, b);
            createTopic(group.topic + "-more", 3, REPLICATION_FACTOR, KEEP_EVERYTHING);
            group.include(group.topic + "-more", 3);
            group.balanced(a, b);
            group.produce(20);
            group.readAll();
            get(admin.deleteTopics(List.of(group.topic + "-more")).all());
            eventually("the deleted topic's partitions are given up", () -> a.owned().size() + b.owned().size() == 5);
            // Nothing is told as assigned while the group rebalances once more.
            eventually("only the first topic is assigned", () -> group.describe().members().stream().map(MemberDescription::assignment)
                .flatMap(one -> one.topicPartitions().stream()).map(TopicPartition::topic).collect(Collectors.toSet()).equals(Set.of(group.topic)));
        }
    }

    // ---- a consumer on the test's own thread

    private Consumer<String, String> consumer(Group group, Map<String, String> extra) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", BOOTSTRAP, "group.id", group.id, "enable.auto.commit", "false",
            "auto.offset.reset", "earliest", "max.poll.records", "10"));
        config.putAll(RANGE);
        config.putAll(extra);
        Consumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(group.topic));
        return consumer;
    }

    /** Reads until there are so many records, and tells the offset of the first. */
    private static long take(Consumer<String, String> consumer, int count) throws Exception {
        long[] seen = {0, -1};
        eventually(count + " records", () -> {
            for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) if (seen[0]++ == 0) seen[1] = record.offset();
            return seen[0] >= count;
        });
        return seen[1];
    }
}
