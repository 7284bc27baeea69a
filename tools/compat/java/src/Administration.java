import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListConfigResourcesOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What an administrator asks of a broker through the Java client. */
final class Administration extends Suite {
    void suite() throws Exception {
        test("topic configs are set, appended to, described with their source, and deleted", this::topicConfigs);
        test("wrong topic configs are refused, and nothing of them is kept", this::wrongTopicConfigs);
        test("broker configs change at run time, and topics see the new default", this::brokerConfigs);
        test("group configs are set and told", this::groupConfigs);
        test("the resources that have configs are listed", this::configResources);
        test("partitions are added", this::createPartitions);
        test("records are deleted up to an offset and up to the end", this::deleteRecords);
        test("log directories and the replicas in them are described", this::logDirs);
        test("a group's offsets are set, listed and deleted without members", this::groupOffsets);
        test("offsets are listed by every specification", this::offsets);
        test("active producers are described", this::producers);
        test("elections have nothing to do, and a partition is reassigned to one broker", this::elections);
        test("the metadata quorum is described", this::quorum);
        test("features are described", this::features);
    }

    // ---- configs

    private void alter(ConfigResource resource, AlterConfigOp... ops) throws Exception {
        get(admin.incrementalAlterConfigs(Map.of(resource, List.of(ops))).all());
    }

    private static AlterConfigOp op(OpType type, String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private ConfigEntry config(ConfigResource resource, String name) throws Exception {
        ConfigEntry entry = described(resource, name);
        check(entry != null, name + " is described");
        return entry;
    }

    private ConfigEntry described(ConfigResource resource, String name) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return get(admin.describeConfigs(List.of(resource), options).all()).get(resource).get(name);
    }

    /** Waits for a value: a broker may answer the change before it acts on it. */
    private void becomes(ConfigResource resource, String name, String value, ConfigSource source) throws Exception {
        String wanted = value + " by " + source;
        long deadline = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (true) {
            ConfigEntry entry = described(resource, name);
            String now = entry == null ? "nothing" : entry.value() + " by " + entry.source();
            if (now.equals(wanted)) return;
            check(System.nanoTime() < deadline, name + " is " + wanted + ": it is " + now);
            Thread.sleep(50);
        }
    }

    private ConfigResource newTopic(String suffix) throws Exception {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic(suffix, 1));
    }

    private ConfigResource broker() throws Exception {
        return new ConfigResource(ConfigResource.Type.BROKER, String.valueOf(node()));
    }

    private int node() throws Exception {
        return get(admin.describeCluster().nodes()).iterator().next().id();
    }

    /** Where a new partition can be. */
    private List<Integer> replicas() throws Exception {
        return get(admin.describeCluster().nodes()).stream().map(node -> node.id()).limit(REPLICATION_FACTOR).toList();
    }

    private void topicConfigs() throws Exception {
        ConfigResource topic = newTopic("configs");
        alter(topic, op(OpType.SET, "retention.ms", "86400000"), op(OpType.SET, "max.message.bytes", "2000000"));
        becomes(topic, "retention.ms", "86400000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        ConfigEntry retention = config(topic, "retention.ms");
        same(retention.type(), ConfigEntry.ConfigType.LONG, "type");
        check(!retention.isDefault() && !retention.isReadOnly() && !retention.isSensitive(), "neither default nor read-only nor sensitive");
        check(retention.documentation() != null && retention.documentation().length() > 20, "documented");
        becomes(topic, "max.message.bytes", "2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        List<String> synonyms = config(topic, "max.message.bytes").synonyms().stream().map(one -> one.name() + " " + one.source()).toList();
        same(synonyms, List.of("max.message.bytes DYNAMIC_TOPIC_CONFIG", "message.max.bytes DEFAULT_CONFIG"), "synonyms");
        becomes(topic, "cleanup.policy", "delete", ConfigSource.DEFAULT_CONFIG);
        alter(topic, op(OpType.APPEND, "cleanup.policy", "compact"));
        becomes(topic, "cleanup.policy", "delete,compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        alter(topic, op(OpType.SUBTRACT, "cleanup.policy", "delete"));
        becomes(topic, "cleanup.policy", "compact", ConfigSource.DYNAMIC_TOPIC_CONFIG);
        alter(topic, op(OpType.DELETE, "cleanup.policy", null), op(OpType.DELETE, "retention.ms", null));
        becomes(topic, "cleanup.policy", "delete", ConfigSource.DEFAULT_CONFIG);
        becomes(topic, "retention.ms", "604800000", ConfigSource.DEFAULT_CONFIG);
        becomes(topic, "max.message.bytes", "2000000", ConfigSource.DYNAMIC_TOPIC_CONFIG);
    }

    private void wrongTopicConfigs() throws Exception {
        ConfigResource topic = newTopic("wrong-configs");
        Exception unknown = refused(InvalidConfigurationException.class, () -> { alter(topic, op(OpType.SET, "no.such.config", "1")); return null; });
        check(unknown.getMessage().contains("no.such.config"), "the message names it: " + unknown.getMessage());
        refused(InvalidConfigurationException.class, () -> { alter(topic, op(OpType.SET, "retention.ms", "soon")); return null; });
        refused(InvalidConfigurationException.class, () -> { alter(topic, op(OpType.SET, "cleanup.policy", "shred")); return null; });
        refused(InvalidConfigurationException.class, () -> { alter(topic, op(OpType.SET, "max.message.bytes", "-5")); return null; });
        refused(InvalidConfigurationException.class, () -> { alter(topic, op(OpType.APPEND, "retention.ms", "1")); return null; });
        // One bad value among good ones: none of the resource's is taken.
        refused(InvalidConfigurationException.class, () -> {
            alter(topic, op(OpType.SET, "segment.ms", "3600000"), op(OpType.SET, "retention.bytes", "many"));
            return null;
        });
        becomes(topic, "segment.ms", "604800000", ConfigSource.DEFAULT_CONFIG);
        ConfigResource nowhere = new ConfigResource(ConfigResource.Type.TOPIC, PREFIX + "-no-such-topic");
        refused(UnknownTopicOrPartitionException.class, () -> { alter(nowhere, op(OpType.SET, "retention.ms", "1")); return null; });
        refused(UnknownTopicOrPartitionException.class, () -> config(nowhere, "retention.ms"));
        get(admin.incrementalAlterConfigs(Map.of(topic, List.of(op(OpType.SET, "retention.ms", "1000"))), new AlterConfigsOptions().validateOnly(true)).all());
        becomes(topic, "retention.ms", "-1", ConfigSource.DYNAMIC_TOPIC_CONFIG);
    }

    private void brokerConfigs() throws Exception {
        ConfigResource topic = newTopic("broker-default"), everywhere = new ConfigResource(ConfigResource.Type.BROKER, ""), one = broker();
        String name = "log.retention.bytes";
        alter(topic, op(OpType.DELETE, "retention.ms", null));
        becomes(topic, "retention.bytes", "-1", ConfigSource.DEFAULT_CONFIG);
        alter(everywhere, op(OpType.SET, name, "40000000000"));
        try {
            becomes(everywhere, name, "40000000000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
            becomes(one, name, "40000000000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
            becomes(topic, "retention.bytes", "40000000000", ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG);
            alter(one, op(OpType.SET, name, "50000000000"));
            becomes(one, name, "50000000000", ConfigSource.DYNAMIC_BROKER_CONFIG);
            becomes(topic, "retention.bytes", "50000000000", ConfigSource.DYNAMIC_BROKER_CONFIG);
        } finally {
            alter(one, op(OpType.DELETE, name, null));
            alter(everywhere, op(OpType.DELETE, name, null));
        }
        becomes(one, name, "-1", ConfigSource.DEFAULT_CONFIG);
        becomes(topic, "retention.bytes", "-1", ConfigSource.DEFAULT_CONFIG);
        check(config(one, "node.id").isReadOnly(), "node.id is read-only");
        refused(InvalidRequestException.class, () -> { alter(one, op(OpType.SET, "node.id", "17")); return null; });
        refused(InvalidRequestException.class, () -> { alter(one, op(OpType.SET, name, "many")); return null; });
    }

    private void groupConfigs() throws Exception {
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, PREFIX + "-configured");
        // The suites' own broker has a shorter one than Kafka's.
        String usual = config(group, "consumer.session.timeout.ms").value();
        check(Set.of("45000", "6000").contains(usual), "the default session is " + usual);
        alter(group, op(OpType.SET, "consumer.session.timeout.ms", "50000"));
        becomes(group, "consumer.session.timeout.ms", "50000", ConfigSource.DYNAMIC_GROUP_CONFIG);
        refused(InvalidConfigurationException.class, () -> { alter(group, op(OpType.SET, "consumer.session.timeout.ms", "1")); return null; });
        refused(InvalidConfigurationException.class, () -> { alter(group, op(OpType.SET, "no.such.config", "1")); return null; });
        check(resources(ConfigResource.Type.GROUP).contains(group.name()), "the group is listed as a resource");
        alter(group, op(OpType.DELETE, "consumer.session.timeout.ms", null));
        eventually("the session is the default again", () -> config(group, "consumer.session.timeout.ms").value().equals(usual));
    }

    private Set<String> resources(ConfigResource.Type type) throws Exception {
        return get(admin.listConfigResources(Set.of(type), new ListConfigResourcesOptions()).all()).stream().map(ConfigResource::name).collect(Collectors.toSet());
    }

    private void configResources() throws Exception {
        ConfigResource topic = newTopic("resource");
        check(resources(ConfigResource.Type.TOPIC).contains(topic.name()), "the topic is a resource");
        check(resources(ConfigResource.Type.BROKER).contains(broker().name()), "the broker is a resource");
        check(resources(ConfigResource.Type.CLIENT_METRICS).isEmpty(), "there are no subscriptions to metrics");
        Set<ConfigResource.Type> types = get(admin.listConfigResources().all()).stream().map(ConfigResource::type).collect(Collectors.toSet());
        check(types.containsAll(Set.of(ConfigResource.Type.TOPIC, ConfigResource.Type.BROKER)), "all types at once: " + types);
    }

    // ---- partitions and records

    private void produce(String topic, int partition, int from, int count) throws Exception {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", BOOTSTRAP), new StringSerializer(), new StringSerializer())) {
            for (int i = from; i < from + count; i++) get(producer.send(new ProducerRecord<>(topic, partition, 1_000_000L + i, null, "value " + i)));
        }
    }

    private void createPartitions() throws Exception {
        String topic = topic("partitions", 2);
        Callable<Integer> count = () -> get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().size();
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(9)), new CreatePartitionsOptions().validateOnly(true)).all());
        same(count.call(), 2, "partitions after a validation");
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all());
        eventually("there are four", () -> count.call() == 4);
        get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5, List.of(replicas())))).all());
        eventually("there are five", () -> count.call() == 5);
        produce(topic, 4, 0, 3);
        TopicPartition four = new TopicPartition(topic, 4);
        same(get(admin.listOffsets(Map.of(four, OffsetSpec.latest())).all()).get(four).offset(), 3L, "records in the new partition");
        Exception fewer = refused(InvalidPartitionsException.class, () -> get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all()));
        check(fewer.getMessage().contains("5"), "the message tells how many there are: " + fewer.getMessage());
        refused(InvalidPartitionsException.class, () -> get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all()));
        refused(InvalidReplicaAssignmentException.class, () -> get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(6, List.of(List.of(4711))))).all()));
        refused(InvalidReplicaAssignmentException.class, () -> get(admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(7, List.of(replicas())))).all()));
        refused(UnknownTopicOrPartitionException.class, () -> get(admin.createPartitions(Map.of(topic + "-no", NewPartitions.increaseTo(3))).all()));
        same(count.call(), 5, "partitions at the end");
    }

    private long lowWatermark(TopicPartition partition, long before) throws Exception {
        return get(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(before))).lowWatermarks().get(partition)).lowWatermark();
    }

    private void deleteRecords() throws Exception {
        String topic = topic("delete-records", 1);
        TopicPartition zero = new TopicPartition(topic, 0);
        produce(topic, 0, 0, 10);
        same(lowWatermark(zero, 4), 4L, "low watermark");
        same(get(admin.listOffsets(Map.of(zero, OffsetSpec.earliest())).all()).get(zero).offset(), 4L, "earliest");
        same(lowWatermark(zero, 2), 4L, "low watermark when less is asked for");
        refused(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, () -> lowWatermark(zero, 11));
        Map<String, Object> config = Map.of("bootstrap.servers", BOOTSTRAP, "auto.offset.reset", "none");
        try (Consumer<String, String> consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(zero));
            consumer.seek(zero, 3);
            refused(OffsetOutOfRangeException.class, () -> { while (true) consumer.poll(Duration.ofMillis(100)); });
            consumer.seek(zero, 4);
            eventually("the first that is left is read", () -> {
                for (var record : consumer.poll(Duration.ofMillis(100))) return record.offset() == 4 && record.value().equals("value 4");
                return false;
            });
        }
        same(lowWatermark(zero, -1), 10L, "low watermark when everything is deleted");
        produce(topic, 0, 10, 1);
        same(get(admin.listOffsets(Map.of(zero, OffsetSpec.latest())).all()).get(zero).offset(), 11L, "latest");
    }

    private void logDirs() throws Exception {
        String topic = topic("log-dirs", 2);
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1);
        produce(topic, 0, 0, 100);
        var dirs = get(admin.describeLogDirs(List.of(node())).allDescriptions()).get(node());
        var holding = dirs.values().stream().filter(dir -> dir.replicaInfos().containsKey(zero)).toList();
        same(holding.size(), 1, "directories with the partition");
        var replica = holding.get(0).replicaInfos().get(zero);
        check(replica.size() > 1000, "100 records take more than 1000 bytes: " + replica.size());
        same(replica.offsetLag(), 0L, "lag of the only replica");
        check(!replica.isFuture(), "it is not being moved");
        check(holding.get(0).replicaInfos().containsKey(one), "the empty partition is there too");
        check(holding.get(0).error() == null, "no error");
        check(holding.get(0).totalBytes().orElse(0) > holding.get(0).usableBytes().orElse(Long.MAX_VALUE), "the disk's size and what is free of it");
        TopicPartitionReplica where = new TopicPartitionReplica(topic, 0, node());
        String path = get(admin.describeReplicaLogDirs(List.of(where)).all()).get(where).getCurrentReplicaLogDir();
        check(path != null && dirs.containsKey(path), "the replica's directory is one of them: " + path);
    }

    // ---- groups without members

    private void groupOffsets() throws Exception {
        String topic = topic("group-offsets", 3), group = PREFIX + "-group-offsets";
        TopicPartition zero = new TopicPartition(topic, 0), one = new TopicPartition(topic, 1), two = new TopicPartition(topic, 2);
        produce(topic, 0, 0, 10);
        check(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).isEmpty(), "a group that does not exist has no offsets");
        get(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(7, Optional.empty(), "seven"), one, new OffsetAndMetadata(0))).all());
        var all = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
        same(all.keySet(), Set.of(zero, one), "partitions with offsets");
        same(all.get(zero), new OffsetAndMetadata(7, Optional.empty(), "seven"), "an offset with metadata");
        var some = get(admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(zero, two)))).partitionsToOffsetAndMetadata(group));
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        wanted.put(zero, new OffsetAndMetadata(7, Optional.empty(), "seven"));
        wanted.put(two, null);
        same(some, wanted, "offsets of chosen partitions");
        refused(UnknownTopicOrPartitionException.class,
            () -> get(admin.alterConsumerGroupOffsets(group, Map.of(new TopicPartition(topic, 9), new OffsetAndMetadata(1))).all()));
        get(admin.alterConsumerGroupOffsets(group, Map.of(zero, new OffsetAndMetadata(2))).all());
        same(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(zero).offset(), 2L, "the offset after a second change");
        get(admin.deleteConsumerGroupOffsets(group, Set.of(zero)).all());
        same(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).keySet(), Set.of(one), "partitions with offsets after a deletion");
        check(get(admin.listGroups().all()).stream().anyMatch(listing -> listing.groupId().equals(group)), "the group is listed");
        get(admin.deleteConsumerGroups(List.of(group)).all());
        check(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).isEmpty(), "nothing is left of the group");
        refused(GroupIdNotFoundException.class, () -> get(admin.deleteConsumerGroups(List.of(group)).all()));
        refused(GroupIdNotFoundException.class, () -> get(admin.deleteConsumerGroupOffsets(group, Set.of(one)).all()));
        refused(GroupIdNotFoundException.class, () -> get(admin.describeConsumerGroups(List.of(group)).all()));
    }

    // ---- what else there is to know

    private long offset(TopicPartition partition, OffsetSpec spec) throws Exception {
        return get(admin.listOffsets(Map.of(partition, spec)).all()).get(partition).offset();
    }

    private void offsets() throws Exception {
        TopicPartition zero = new TopicPartition(topic("offsets", 1), 0);
        same(offset(zero, OffsetSpec.maxTimestamp()), -1L, "largest timestamp of an empty partition");
        produce(zero.topic(), 0, 0, 10);
        same(offset(zero, OffsetSpec.earliest()), 0L, "earliest");
        same(offset(zero, OffsetSpec.latest()), 10L, "latest");
        same(offset(zero, OffsetSpec.maxTimestamp()), 9L, "largest timestamp");
        same(offset(zero, OffsetSpec.forTimestamp(1_000_004)), 4L, "by timestamp");
        same(offset(zero, OffsetSpec.forTimestamp(2_000_000)), -1L, "by a timestamp that nothing has reached");
        same(offset(zero, OffsetSpec.earliestLocal()), 0L, "earliest local");
        same(offset(zero, OffsetSpec.latestTiered()), -1L, "latest tiered");
    }

    private void producers() throws Exception {
        TopicPartition zero = new TopicPartition(topic("producers", 2), 0), one = new TopicPartition(zero.topic(), 1);
        produce(zero.topic(), 0, 0, 7);
        List<ProducerState> active = get(admin.describeProducers(List.of(zero)).partitionResult(zero)).activeProducers();
        same(active.size(), 1, "producers that have written");
        check(active.get(0).producerId() >= 0, "it has an id");
        same(active.get(0).lastSequence(), 6, "its last sequence number");
        same(active.get(0).producerEpoch(), 0, "its epoch");
        check(active.get(0).currentTransactionStartOffset().isEmpty(), "it is in no transaction");
        check(get(admin.describeProducers(List.of(one)).partitionResult(one)).activeProducers().isEmpty(), "nobody has written to the other partition");
    }

    private void elections() throws Exception {
        TopicPartition zero = new TopicPartition(topic("elections", 1), 0), nowhere = new TopicPartition(PREFIX + "-no-such-topic", 0);
        for (ElectionType type : ElectionType.values()) {
            var result = get(admin.electLeaders(type, Set.of(zero, nowhere)).partitions());
            check(result.get(zero).orElseThrow() instanceof ElectionNotNeededException, type + ": " + result.get(zero));
            check(result.get(nowhere).orElseThrow() instanceof UnknownTopicOrPartitionException, type + ": " + result.get(nowhere));
        }
        get(admin.alterPartitionReassignments(Map.of(zero, Optional.of(new NewPartitionReassignment(List.of(node()))))).all());
        refused(InvalidReplicaAssignmentException.class,
            () -> get(admin.alterPartitionReassignments(Map.of(zero, Optional.of(new NewPartitionReassignment(List.of(4711))))).all()));
        eventually("no reassignment is under way", () -> get(admin.listPartitionReassignments().reassignments()).isEmpty());
    }

    private void quorum() throws Exception {
        var quorum = get(admin.describeMetadataQuorum().quorumInfo());
        same(quorum.voters().size(), get(admin.describeCluster().nodes()).size(), "voters");
        check(quorum.voters().stream().anyMatch(voter -> voter.replicaId() == quorum.leaderId()), "the leader is one of the voters");
        check(quorum.leaderEpoch() >= 0, "there is an epoch");
        long before = quorum.highWatermark();
        check(before > 0, "metadata has been written");
        topic("quorum", 1);
        eventually("a new topic moves the high watermark", () -> get(admin.describeMetadataQuorum().quorumInfo()).highWatermark() > before);
        eventually("the voters' ends move too", () -> get(admin.describeMetadataQuorum().quorumInfo()).voters().stream().allMatch(voter -> voter.logEndOffset() > before));
    }

    private void features() throws Exception {
        var features = get(admin.describeFeatures().featureMetadata());
        check(features.finalizedFeaturesEpoch().orElse(-1L) >= 0, "the features have an epoch: " + features);
        var supported = features.supportedFeatures().get("group.version");
        var finalized = features.finalizedFeatures().get("group.version");
        check(supported != null && supported.maxVersion() >= 1, "the new group protocol is known: " + features);
        check(finalized != null && finalized.maxVersionLevel() >= 1, "the new group protocol is on: " + features);
    }
}
