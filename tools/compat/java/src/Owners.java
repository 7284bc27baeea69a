import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.TopicPartition;

/**
 * Who owns which partition of a group, as the members are told: a member claims when it is assigned and releases before it
 * answers a revocation. A claim for what another member still has is what a group must never lead to, and is kept.
 */
final class Owners {
    private final Map<TopicPartition, String> owner = new HashMap<>();
    private final List<String> conflicts = new ArrayList<>();

    synchronized void claim(String member, Collection<TopicPartition> partitions) {
        for (TopicPartition partition : partitions) {
            String before = owner.put(partition, member);
            if (before != null && !before.equals(member)) conflicts.add(partition + " was given to " + member + " while " + before + " had it");
        }
    }

    synchronized void release(String member, Collection<TopicPartition> partitions) {
        for (TopicPartition partition : partitions) owner.remove(partition, member);
    }

    /** For a member that dies: it tells nobody. */
    synchronized void releaseAll(String member) {
        owner.values().removeIf(member::equals);
    }

    synchronized Set<TopicPartition> of(String member) {
        Set<TopicPartition> owned = new HashSet<>();
        owner.forEach((partition, who) -> { if (who.equals(member)) owned.add(partition); });
        return owned;
    }

    synchronized Map<TopicPartition, String> all() {
        return Map.copyOf(owner);
    }

    synchronized List<String> conflicts() {
        return List.copyOf(conflicts);
    }
}
