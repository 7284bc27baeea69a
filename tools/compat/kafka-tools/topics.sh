# kafka-topics, kafka-console-producer, kafka-console-consumer without a group, kafka-get-offsets. Sourced by run.

create() { topics --create --topic "$topic" --partitions 3 --replication-factor "$REPLICATION_FACTOR" --config retention.ms=-1 >"$scratch/o"; has "$scratch/o" "Created topic $topic."; }
create_again() {
  local status=0
  topics --create --topic "$topic" --partitions 3 >"$scratch/o" 2>&1 || status=$?
  [ $status != 0 ]
  has "$scratch/o" TopicExistsException
  topics --create --topic "$topic" --if-not-exists --partitions 3
}
create_wrong() {
  refused "InvalidTopicException" TopicCommand --create --topic "$topic?" --partitions 1
  refused "no.such.config" TopicCommand --create --topic "$topic-wrong" --partitions 1 --config no.such.config=1
  refused "InvalidReplicationFactorException" TopicCommand --create --topic "$topic-wrong" --partitions 1 --replication-factor 9
}
list() { topics --list >"$scratch/o"; has "$scratch/o" "$topic"; lacks "$scratch/o" "$topic-wrong"; }
describe() {
  topics --describe --topic "$topic" >"$scratch/o"
  has "$scratch/o" "PartitionCount: 3"
  has "$scratch/o" "ReplicationFactor: $REPLICATION_FACTOR"
  has "$scratch/o" "retention.ms=-1"
  equals "$(grep -c "Leader: " "$scratch/o")" 3 "leaders"
}
produce() {
  lines 1 5000 >"$scratch/in"
  console_producer --compression-codec zstd <"$scratch/in"
}
consume() {
  local p end
  : >"$scratch/all"
  offsets_of --time -1 >"$scratch/ends"
  while IFS=: read -r _ p end; do
    [ "$end" = 0 ] || console_consumer --partition "$p" --offset earliest --max-messages "$end" >>"$scratch/all" </dev/null
  done <"$scratch/ends"
  sort "$scratch/all" | cmp - <(sort "$scratch/in")
}
keyed() {
  printf 'h1:v1,h2:v2\tk%d\tvalue %d\n' 1 1 2 2 3 3 >"$scratch/in2"
  topics --create --topic "$topic-keyed" --partitions 1 --config retention.ms=-1
  topic=$topic-keyed
  console_producer --property parse.key=true --property parse.headers=true --property null.marker=NULL --property enable.idempotence=true <"$scratch/in2"
  printf 'NULL\tk4\tNULL\n' | console_producer --property parse.key=true --property parse.headers=true --property null.marker=NULL
  console_consumer --partition 0 --offset 1 --max-messages 3 --property print.key=true --property print.headers=true \
    --property print.offset=true --property print.partition=true >"$scratch/o"
  printf 'Partition:0\tOffset:%d\th1:v1,h2:v2\tk%d\tvalue %d\n' 1 2 2 2 3 3 >"$scratch/wanted"
  printf 'Partition:0\tOffset:3\tNO_HEADERS\tk4\tnull\n' >>"$scratch/wanted"
  diff "$scratch/wanted" "$scratch/o"
}
offsets() {
  topic=$topic-keyed
  equals "$(offsets_of --time earliest)" "$topic:0:0"
  equals "$(offsets_of --time latest)" "$topic:0:4"
  equals "$(offsets_of --time max-timestamp)" "$topic:0:3"
}
delete() {
  topics --delete --topic "$topic"
  gone() { topics --list >"$scratch/o"; ! grep -qxF "$topic" "$scratch/o"; }
  eventually 60 gone
  refused "does not exist as expected" TopicCommand --describe --topic "$topic"
}

topic_cases() {
  test_case "kafka-topics creates a topic" create
  test_case "kafka-topics refuses it the second time, unless told not to" create_again
  test_case "kafka-topics says what is wrong with a name, a config, a replication factor" create_wrong
  test_case "kafka-topics lists it" list
  test_case "kafka-topics describes it with its configuration" describe
  test_case "kafka-console-producer writes 5,000 lines" produce
  test_case "kafka-console-consumer reads them by partition" consume
  test_case "keys, headers and null values, read from an offset" keyed
  test_case "kafka-get-offsets tells earliest, latest and the largest timestamp's" offsets
}
