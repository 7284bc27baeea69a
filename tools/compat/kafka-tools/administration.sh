# kafka-configs, kafka-topics --alter, kafka-delete-records, kafka-log-dirs, and those that tell about the cluster. Sourced by run.

alter_partitions() {
  topics --alter --topic "$topic" --partitions 5
  topics --describe --topic "$topic" >"$scratch/o"
  has "$scratch/o" "PartitionCount: 5"
  refused "InvalidPartitionsException" TopicCommand --alter --topic "$topic" --partitions 2
}
topic_config() {
  configs --alter --entity-type topics --entity-name "$topic" --add-config retention.ms=3600000,cleanup.policy=[compact,delete] >"$scratch/o"
  has "$scratch/o" "Completed updating config for topic $topic."
  configs --describe --entity-type topics --entity-name "$topic" >"$scratch/o"
  has "$scratch/o" "retention.ms=3600000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=3600000"
  has "$scratch/o" "cleanup.policy=compact,delete"
  configs --alter --entity-type topics --entity-name "$topic" --delete-config cleanup.policy --add-config retention.ms=-1 >/dev/null
  configs --describe --entity-type topics --entity-name "$topic" >"$scratch/o"
  has "$scratch/o" "retention.ms=-1"
  lacks "$scratch/o" "cleanup.policy"
  configs --describe --all --entity-type topics --entity-name "$topic" >"$scratch/o"
  has "$scratch/o" "cleanup.policy=delete sensitive=false synonyms={DEFAULT_CONFIG:log.cleanup.policy=delete}"
}
topic_config_wrong() {
  local status=0
  configs --alter --entity-type topics --entity-name "$topic" --add-config no.such.config=1 >"$scratch/o" 2>&1 || status=$?
  [ $status != 0 ]
  has "$scratch/o" "no.such.config"
  status=0
  configs --alter --entity-type topics --entity-name "$topic" --add-config retention.ms=soon >"$scratch/o" 2>&1 || status=$?
  [ $status != 0 ]
  has "$scratch/o" "InvalidConfigurationException"
  configs --describe --entity-type topics --entity-name "$topic" >"$scratch/o"
  has "$scratch/o" "retention.ms=-1"
}
broker_config() {
  configs --alter --entity-type brokers --entity-default --add-config log.retention.bytes=70000000000 >/dev/null
  configs --describe --entity-type brokers --entity-default >"$scratch/o"
  has "$scratch/o" "log.retention.bytes=70000000000"
  configs --alter --entity-type brokers --entity-default --delete-config log.retention.bytes >/dev/null
  configs --describe --entity-type brokers --entity-default >"$scratch/o"
  lacks "$scratch/o" "log.retention.bytes"
}
delete_records() {
  local end
  end=$(tool GetOffsetShell --topic-partitions "$topic:0" --time latest | cut -d: -f3)
  printf '{"partitions":[{"topic":"%s","partition":0,"offset":%d},{"topic":"%s","partition":2,"offset":-1}],"version":1}' "$topic" 10 "$topic" >"$scratch/delete.json"
  tool DeleteRecordsCommand --offset-json-file "$scratch/delete.json" >"$scratch/o"
  has "$scratch/o" "low_watermark: 10"
  equals "$(tool GetOffsetShell --topic-partitions "$topic:0" --time earliest)" "$topic:0:10" "earliest of partition 0"
  equals "$(tool GetOffsetShell --topic-partitions "$topic:0" --time latest)" "$topic:0:$end" "latest of partition 0"
  equals "$(tool GetOffsetShell --topic-partitions "$topic:2" --time earliest | cut -d: -f3)" "$(tool GetOffsetShell --topic-partitions "$topic:2" --time latest | cut -d: -f3)" "partition 2"
}
log_dirs() {
  tool LogDirsCommand --describe --topic-list "$topic" >"$scratch/o"
  python3 - "$scratch/o" "$topic" "$REPLICATION_FACTOR" <<'P'
import json, sys
told = json.loads(next(line for line in open(sys.argv[1]) if line.startswith("{")))
partitions = [p for broker in told["brokers"] for directory in broker["logDirs"] for p in directory["partitions"]]
assert sorted(p["partition"] for p in partitions) == [f"{sys.argv[2]}-{n}" for n in range(5) for _ in range(int(sys.argv[3]))], partitions
assert sum(p["size"] for p in partitions) > 5000, partitions
assert all(p["offsetLag"] == 0 and not p["isFuture"] for p in partitions), partitions
assert all(directory["error"] is None for broker in told["brokers"] for directory in broker["logDirs"]), told
P
}
cluster() {
  tool ClusterTool cluster-id >"$scratch/o" 2>&1 || main org.apache.kafka.tools.ClusterTool cluster-id --bootstrap-server "$BOOTSTRAP" >"$scratch/o"
  grep -qE '^Cluster ID: [A-Za-z0-9_-]{22}$' "$scratch/o" || { cat "$scratch/o"; return 1; }
  tool BrokerApiVersionsCommand >"$scratch/o"
  has "$scratch/o" "Fetch(1): 4 to 18"
  tool MetadataQuorumCommand describe --status >"$scratch/o"
  has "$scratch/o" "LeaderId:"
  has "$scratch/o" "HighWatermark:"
  tool LeaderElectionCommand --election-type preferred --topic "$topic" --partition 0 >"$scratch/o"
  has "$scratch/o" "Valid replica already elected for partitions $topic-0"
}

administration_cases() {
  test_case "kafka-topics adds partitions, and does not take them away" alter_partitions
  test_case "kafka-configs changes a topic's configs and describes them" topic_config
  test_case "kafka-configs tells what is wrong, and changes nothing" topic_config_wrong
  test_case "kafka-configs changes the brokers' defaults" broker_config
  test_case "kafka-delete-records deletes up to an offset, and everything" delete_records
  test_case "kafka-log-dirs tells sizes" log_dirs
  test_case "kafka-cluster, kafka-broker-api-versions, kafka-metadata-quorum, kafka-leader-election" cluster
}
