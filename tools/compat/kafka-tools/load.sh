# kafka-producer-perf-test, kafka-consumer-perf-test, kafka-verifiable-producer, kafka-verifiable-consumer. Sourced by run.

perf_topic() { topics --create --topic "$topic-perf" --partitions 3 --config retention.ms=-1; }
perf_produce() {
  perf_topic
  main org.apache.kafka.tools.ProducerPerformance --topic "$topic-perf" --num-records 100000 --record-size 100 --throughput -1 \
    --producer-props "bootstrap.servers=$BOOTSTRAP" acks=all compression.type=lz4 >"$scratch/perf"
  has "$scratch/perf" "100000 records sent"
  topic=$topic-perf
  equals "$(offsets_of | awk -F: '{ sum += $3 } END { print sum }')" 100000 "records"
}
perf_consume() {
  topic=$topic-perf
  tool ConsumerPerformance --topic "$topic" --messages 100000 --group "$topic-group" --timeout 60000 >"$scratch/o"
  equals "$(awk -F', *' 'NR > 1 && $5 + 0 > 0 { print $5 }' "$scratch/o" | tail -n 1)" 100000 "records consumed"
  group=$topic-group
  lag_is 0
}
verifiable_produce() {
  topics --create --topic "$topic-verified" --partitions 2 --config retention.ms=-1
  topic=$topic-verified
  tool VerifiableProducer --topic "$topic" --max-messages 1000 --acks -1 >"$scratch/o"
  equals "$(grep -c '"name":"producer_send_success"' "$scratch/o")" 1000 "acknowledged"
  lacks "$scratch/o" "producer_send_error"
  grep '"name":"tool_data"' "$scratch/o" | grep -qF '"acked":1000' || { tail -n 3 "$scratch/o"; return 1; }
}
verifiable_consume() {
  topic=$topic-verified
  tool VerifiableConsumer --topic "$topic" --group-id "$topic-group" --max-messages 1000 --reset-policy earliest >"$scratch/o"
  python3 - "$scratch/o" "$topic" <<'P'
import json, sys
events = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
assigned = [p for e in events if e["name"] == "partitions_assigned" for p in e["partitions"]]
assert sorted(p["partition"] for p in assigned) == [0, 1], assigned
assert sum(e["count"] for e in events if e["name"] == "records_consumed") == 1000, events
commits = [e for e in events if e["name"] == "offsets_committed"]
assert commits and all(e["success"] for e in commits), commits
last = {o["partition"]: o["offset"] for e in commits for o in e["offsets"]}
assert sum(last.values()) == 1000, last
P
}

load_cases() {
  test_case "kafka-producer-perf-test writes 100,000 records" perf_produce
  grep "records sent" "$scratch/perf" | tail -n 1 || true
  test_case "kafka-consumer-perf-test reads them in a group" perf_consume
  test_case "kafka-verifiable-producer writes 1,000 records, each acknowledged" verifiable_produce
  test_case "kafka-verifiable-consumer reads them and commits" verifiable_consume
}
