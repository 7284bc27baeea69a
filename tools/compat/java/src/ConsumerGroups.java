import java.time.Duration;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** Consumer groups by the new protocol (KIP-848): ConsumerGroupHeartbeat, assignment by the broker. */
final class ConsumerGroups extends Suite {
    private static final Map<String, String> CONSUMER = Map.of("group.protocol", "consumer");
    /** A dead member is only missed when its session ends, after 45 s by default. */
    private static final Duration SESSION_ENDS = Duration.ofSeconds(100);

    void suite() {
        together(List.of(
            new Case("a consumer group, uniform: members join, one leaves, everything is read", () -> life("uniform")),
            new Case("a consumer group, range: the same", () -> life("range")),
            new Case("a member that dies is replaced when its session ends", this::death),
            new Case("a regular expression is resolved by the broker, also for topics that come later", this::regularExpression),
            new Case("a static member returns to its partitions; a second one of the same name is refused", this::staticMember),
            new Case("an assignor that does not exist, and a broken expression, are refused", this::refusals),
            new Case("a classic group, range, migrates to the new protocol and back without losing a partition", () -> migration("range", RangeAssignor.class)),
            new Case("a classic group, cooperative-sticky, does the same", () -> migration("cooperative", CooperativeStickyAssignor.class))));
    }

    private void life(String assignor) throws Exception {
        try (Group group = new Group(this, "consumer-" + assignor, 6, Map.of("group.protocol", "consumer", "group.remote.assignor", assignor))) {
            Member a = group.join(Map.of());
            group.settled(a);
            group.produce(50);
            Member b = group.join(Map.of());
            Member c = group.join(Map.of());
            group.balanced(a, b, c);
            group.produce(50);
            eventually("everybody has what the group's epoch gives", () -> group.describe().groupState() == GroupState.STABLE);
            ConsumerGroupDescription description = group.describe();
            same(description.type(), GroupType.CONSUMER, "type");
            same(description.partitionAssignor(), assignor, "assignor");
            check(description.groupEpoch().orElse(0) > 0, "the group has an epoch");
            same(description.targetAssignmentEpoch(), description.groupEpoch(), "the target's epoch");
            for (var member : description.members()) {
                same(member.memberEpoch(), description.groupEpoch(), "a member's epoch");
                same(member.targetAssignment(), Optional.of(member.assignment()), "a member's target");
                same(member.upgraded(), Optional.of(true), "a member of the new protocol");
            }
            group.describedAsOwned(a, b, c);
            b.close();
            group.balanced(a, c);
            get(admin.createPartitions(Map.of(group.topic, NewPartitions.increaseTo(8))).all());
            group.include(group.topic, 8);
            group.balanced(a, c);
            group.produce(50);
            group.readAll();
            group.committedAll();
            TopicPartition zero = new TopicPartition(group.topic, 0);
            refused(GroupNotEmptyException.class, () -> get(admin.deleteConsumerGroups(List.of(group.id)).all()));
            refused(UnknownMemberIdException.class, () -> get(admin.alterConsumerGroupOffsets(group.id, Map.of(zero, new OffsetAndMetadata(3))).all()));
            check(listed(GroupType.CONSUMER).contains(group.id), "listed as a consumer group");
            check(!listed(GroupType.CLASSIC).contains(group.id), "not listed as a classic group");
            a.close();
            c.close();
            eventually("the group is empty", () -> group.describe().groupState() == GroupState.EMPTY);
            group.committedAll();
            // Another member resumes behind what was committed: only what is new comes.
            group.produce(10);
            Member d = group.join(Map.of("auto.offset.reset", "none"));
            group.settled(d);
            group.readAll();
            d.close();
            group.delete();
        }
    }

    private Set<String> listed(GroupType type) throws Exception {
        return get(admin.listGroups(ListGroupsOptions.forConsumerGroups().withTypes(Set.of(type))).valid()).stream().map(one -> one.groupId()).collect(Collectors.toSet());
    }

    private void death() throws Exception {
        try (Group group = new Group(this, "consumer-death", 4, CONSUMER)) {
            Member a = group.join(Map.of());
            group.settled(a);
            group.produce(20);
            try (OtherProcess victim = new OtherProcess(group.id, group.topic, CONSUMER)) {
                eventually("both have two partitions", () -> a.owned().size() == 2 && victim.owned().size() == 2);
                check(Collections.disjoint(a.owned(), victim.owned()), "nothing is owned twice: " + a.owned() + ", " + victim.owned());
                victim.kill();
            }
            same(group.describe().members().size(), 2, "members until the session ends");
            group.settled(SESSION_ENDS, a);
            same(group.describe().members().size(), 1, "members afterwards");
            group.produce(20);
            group.committedAll();
        }
    }

    private void regularExpression() throws Exception {
        try (Group group = new Group(this, "expression", 2, CONSUMER)) {
            SubscriptionPattern pattern = new SubscriptionPattern(Pattern.quote(group.topic).replace("\\Q", "").replace("\\E", "") + "(-[a-z]+)?");
            Member.Subscription matching = (consumer, listener) -> consumer.subscribe(pattern, listener);
            Member a = group.join(Map.of(), matching);
            group.settled(a);
            createTopic(group.topic + "-later", 2, REPLICATION_FACTOR, KEEP_EVERYTHING);
            createTopic(group.topic + "-NOT", 2, REPLICATION_FACTOR, KEEP_EVERYTHING);
            group.include(group.topic + "-later", 2);
            group.settled(a);
            Member b = group.join(Map.of(), matching);
            group.balanced(a, b);
            group.produce(20);
            group.readAll();
            group.committedAll();
        }
    }

    private void staticMember() throws Exception {
        try (Group group = new Group(this, "consumer-static", 4, CONSUMER)) {
            Member a = group.join(Map.of("group.instance.id", "first"));
            Member b = group.join(Map.of("group.instance.id", "second"));
            group.balanced(a, b);
            group.produce(20);
            group.readAll();
            Set<TopicPartition> mine = b.owned();
            Member twin = group.join(Map.of("group.instance.id", "second"));
            eventually("the twin is refused", () -> twin.error instanceof UnreleasedInstanceIdException);
            int assignments = a.assignments.get();
            Optional<Integer> epoch = group.describe().groupEpoch();
            b.close();
            same(group.describe().members().size(), 2, "members while the static one is away");
            Member again = group.join(Map.of("group.instance.id", "second"));
            group.settled(a, again);
            same(again.owned(), mine, "the partitions of the restarted member");
            same(a.assignments.get(), assignments, "assignments of the other member");
            same(group.describe().groupEpoch(), epoch, "the group's epoch");
            group.produce(20);
            group.readAll();
        }
    }

    private void refusals() throws Exception {
        try (Group group = new Group(this, "consumer-refusals", 2, CONSUMER)) {
            Member unassignable = group.join(Map.of("group.remote.assignor", "nobody-knows-it"));
            eventually("the assignor is refused", () -> unassignable.error instanceof UnsupportedAssignorException);
            Member broken = group.join(Map.of(), (consumer, listener) -> consumer.subscribe(new SubscriptionPattern("(unclosed"), listener));
            eventually("the expression is refused", () -> broken.error instanceof InvalidRegularExpression);
            Member good = group.join(Map.of());
            group.settled(good);
        }
    }

    private void migration(String name, Class<?> assignor) throws Exception {
        Map<String, String> classic = ClassicGroups.classic(assignor);
        try (Group group = new Group(this, "migration-" + name, 6, Map.of())) {
            Member a = group.join(classic);
            Member b = group.join(classic);
            group.balanced(a, b);
            group.produce(30);
            same(group.describe().type(), GroupType.CLASSIC, "type at first");
            Member c = group.join(CONSUMER);
            group.balanced(a, b, c);
            group.produce(30);
            ConsumerGroupDescription mixed = group.describe();
            same(mixed.type(), GroupType.CONSUMER, "type with members of both kinds");
            Set<String> upgraded = mixed.members().stream().filter(one -> one.upgraded().orElse(false)).map(one -> one.clientId()).collect(Collectors.toSet());
            same(upgraded, Set.of(c.name), "members of the new protocol");
            group.describedAsOwned(a, b, c);
            a.close();
            Member d = group.join(CONSUMER);
            group.balanced(b, c, d);
            b.close();
            group.balanced(c, d);
            group.produce(30);
            check(group.describe().members().stream().allMatch(one -> one.upgraded().orElse(false)), "all members are of the new protocol");
            Member e = group.join(classic);
            group.balanced(c, d, e);
            c.close();
            d.close();
            group.settled(e);
            group.produce(30);
            same(group.describe().type(), GroupType.CLASSIC, "type when the last member of the new protocol has left");
            group.readAll();
            group.committedAll();
        }
    }
}
