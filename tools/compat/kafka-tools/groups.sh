# kafka-console-consumer in a group, kafka-consumer-groups, kafka-groups. Sourced by run; topic_cases has written 5,000 lines.

# column N: the sum of the N-th column of `kafka-consumer-groups --describe`: 4 current offset, 5 log end offset, 6 lag.
column() { groups --describe --group "$group" >"$scratch/described" 2>"$scratch/described.err"; awk -v n="$1" -v g="$group" '$1 == g { sum += $n } END { print sum + 0 }' "$scratch/described"; }
lag_is() { local lag; lag=$(column 6); equals "$lag" "$1" "lag"; }
# reset WANTED ARGS...: resets, and the new offsets that are told add up to this.
reset() {
  local wanted=$1; shift
  groups --reset-offsets --group "$group" --topic "$topic" "$@" >"$scratch/o" 2>&1
  equals "$(awk -v g="$group" '$1 == g { sum += $4 } END { print sum + 0 }' "$scratch/o")" "$wanted" "sum of the new offsets after $*"
}

group_reads() {
  console_consumer --group "$group" --from-beginning --max-messages 5000 >"$scratch/all"
  sort "$scratch/all" | cmp - <(sort "$scratch/in")
}
group_list() { groups --list >"$scratch/o"; has "$scratch/o" "$group"; }
group_describe() {
  lag_is 0
  equals "$(column 4)" 5000 "current offsets"
  equals "$(column 5)" 5000 "log end offsets"
  has "$scratch/described.err" "has no active members" || has "$scratch/described" "has no active members"
  lines 5001 5100 >"$scratch/more"
  console_producer <"$scratch/more"
  lag_is 100
  groups --describe --group "$group" --state >"$scratch/o"
  has "$scratch/o" "Empty"
  refused "GroupIdNotFoundException" consumer.group.ConsumerGroupCommand --describe --group "$group-no"
}
# With a member: who it is, and what is refused meanwhile. It reads what was left, and leaves when it is told to end.
group_alive() {
  timeout 120 "${JAVA[@]}" org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BOOTSTRAP" --topic "$topic" --group "$group" \
    --consumer-property client.id=the-member >"$scratch/rest" 2>"$scratch/rest.err" &
  local member=$!
  trap 'kill '$member' 2>/dev/null || true' EXIT
  rest_read() { [ "$(wc -l <"$scratch/rest")" = 100 ]; }
  eventually 60 rest_read
  eventually 60 lag_is 0
  cmp <(sort "$scratch/rest") <(sort "$scratch/more")
  has "$scratch/described" "the-member"
  groups --describe --group "$group" --members --verbose >"$scratch/o"
  has "$scratch/o" "$topic(0,1,2)" || has "$scratch/o" "$topic:0,1,2"
  groups --describe --group "$group" --state >"$scratch/o"
  has "$scratch/o" "Stable"
  has "$scratch/o" "range"
  refused "is inactive" consumer.group.ConsumerGroupCommand --reset-offsets --group "$group" --topic "$topic" --to-earliest --execute
  refused "GroupNotEmptyException" consumer.group.ConsumerGroupCommand --delete --group "$group"
  kill "$member"
  wait "$member" || true
  groups --describe --group "$group" --state >"$scratch/o"
  has "$scratch/o" "Empty"
}
group_reset() {
  local now; now=$(date -u -d '+1 hour' +%Y-%m-%dT%H:%M:%S.000)
  reset 0 --to-earliest --dry-run
  lag_is 0
  reset 0 --to-earliest --execute
  lag_is 5100
  reset 21 --to-offset 7 --execute
  reset 51 --shift-by 10 --execute
  reset 5100 --to-datetime "$now" --execute
  reset 0 --to-datetime 2001-01-01T00:00:00.000 --execute
  reset 5100 --to-latest --execute
  printf '"%s",0,3\n"%s",2,4\n' "$topic" "$topic" >"$scratch/plan.csv"
  groups --reset-offsets --group "$group" --from-file "$scratch/plan.csv" --execute >"$scratch/o" 2>&1
  equals "$(awk -v g="$group" '$1 == g { print $3, $4 }' "$scratch/o" | sort | tr '\n' ' ')" "0 3 2 4 " "partitions and offsets of the plan"
  groups --describe --group "$group" --offsets >"$scratch/o" 2>/dev/null
  equals "$(awk -v g="$group" '$1 == g { print $3, $4 }' "$scratch/o" | sort | head -n 1)" "0 3" "committed by the plan"
}
group_resumes() {
  groups --reset-offsets --group "$group" --topic "$topic" --to-earliest --execute >/dev/null 2>&1
  console_consumer --group "$group" --max-messages 5100 >"$scratch/all"
  sort "$scratch/all" | cmp - <(sort "$scratch/in" "$scratch/more")
}
group_delete() {
  groups --delete-offsets --group "$group" --topic "$topic:1" >"$scratch/o"
  has "$scratch/o" "Successful"
  groups --describe --group "$group" >"$scratch/o" 2>/dev/null
  equals "$(awk -v g="$group" '$1 == g && $4 != "-" { print $3 }' "$scratch/o" | sort | tr '\n' ' ')" "0 2 " "partitions with offsets"
  groups --delete --group "$group" >"$scratch/o"
  has "$scratch/o" "was successful"
  groups --list >"$scratch/o"
  lacks "$scratch/o" "$group"
}
# The new protocol: the broker assigns.
group_consumer() {
  group=$group-new
  console_consumer --group "$group" --consumer-property group.protocol=consumer --from-beginning --max-messages 5100 >"$scratch/all"
  sort "$scratch/all" | cmp - <(sort "$scratch/in" "$scratch/more")
  lag_is 0
  tool GroupsCommand --list >"$scratch/o"
  grep -qE "^$group +Consumer +consumer" "$scratch/o" || { cat "$scratch/o"; return 1; }
  groups --list --type consumer >"$scratch/o"
  has "$scratch/o" "$group"
  groups --delete --group "$group" >"$scratch/o"
  has "$scratch/o" "was successful"
}

group_cases() {
  test_case "kafka-console-consumer reads everything as a member of a group" group_reads
  test_case "kafka-consumer-groups lists the group" group_list
  test_case "kafka-consumer-groups describes it: offsets, lag, state" group_describe
  test_case "with a member: described; neither reset nor deleted; it leaves when it ends" group_alive
  test_case "kafka-consumer-groups resets offsets: earliest, latest, offset, shift, datetime, file" group_reset
  test_case "a consumer goes on where the offsets were set to" group_resumes
  test_case "kafka-consumer-groups deletes offsets, and the group" group_delete
  test_case "the same with the new group protocol; kafka-groups tells them apart" group_consumer
}
