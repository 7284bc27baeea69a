# What changes a cluster: kafka-metadata-quorum add-controller and remove-controller, kafka-reassign-partitions --throttle; and tools that talk to a controller.
# On brokers that the suite has started itself. Sourced by run.

quorum() { tool MetadataQuorumCommand "$@"; }
# directory_of NODE: the id of its data directory, as the quorum knows it.
directory_of() { quorum describe --replication | awk -v node="$1" '$1 == node { print $2 }'; }
# status_is NODE STATUS: Leader, Follower or Observer.
status_is() { equals "$(quorum describe --replication | awk -v node="$1" '$1 == node { print $NF }')" "$2" "status of node $1"; }
votes() { ! status_is "$1" Observer >/dev/null; }

# controller_file NODE: what the tool reads about the node that is to vote, in the words of Kafka's configuration. Its folder has meta.properties.
controller_file() {
  cat >"$scratch/controller-$1.properties" <<P
node.id=$1
process.roles=controller
controller.listener.names=CONTROLLER
listeners=CONTROLLER://127.0.0.1:9093
log.dirs=$BROKER_DIR/data-$1
P
  echo "$scratch/controller-$1.properties"
}
add_controller() { quorum --command-config "$(controller_file "$1")" add-controller; }
remove_controller() { quorum remove-controller --controller-id "$1" --controller-directory-id "$(directory_of "$1")"; }

added() {
  local directory
  directory=$(sed -n 's/^directory.id=//p' "$BROKER_DIR/data-4/meta.properties")
  eventually 30 status_is 4 Observer
  equals "$(directory_of 4)" "$directory" "directory of node 4"
  quorum --command-config "$(controller_file 4)" add-controller --dry-run >"$scratch/o"
  has "$scratch/o" "DRY RUN of adding controller 4 with directory id $directory"
  status_is 4 Observer
  add_controller 4 >"$scratch/o"
  has "$scratch/o" "Added controller 4 with directory id $directory"
  votes 4
  refused "DuplicateVoterException" MetadataQuorumCommand --command-config "$(controller_file 4)" add-controller
}
exchanged() {
  remove_controller 3 >"$scratch/o"
  has "$scratch/o" "KRaft controller 3 with directory id"
  eventually 30 status_is 3 Observer
  refused "VoterNotFoundException" MetadataQuorumCommand remove-controller --controller-id 3 --controller-directory-id "$(directory_of 3)"
  quorum describe --status >"$scratch/o"
  grep -q '^CurrentVoters:.*"id": 4' "$scratch/o" || { cat "$scratch/o"; return 1; }
  grep -q '^CurrentObservers:.*"id": 3' "$scratch/o" || { cat "$scratch/o"; return 1; }
  topics --create --topic "$topic-of-others" --partitions 3
  topics --delete --topic "$topic-of-others"
}
removed() {
  add_controller 3 >"$scratch/o"
  has "$scratch/o" "Added controller 3"
  refused "VoterNotFoundException" MetadataQuorumCommand remove-controller --controller-id 4 --controller-directory-id "$(directory_of 3)"
  remove_controller 4 >"$scratch/o"
  has "$scratch/o" "KRaft controller 4 with directory id"
  eventually 30 status_is 4 Observer
  votes 3
}

reassign() { tool reassign.ReassignPartitionsCommand --reassignment-json-file "$scratch/moves.json" "$@"; }
throttled_move() {
  local moved=$topic-that-moves
  topics --create --topic "$moved" --replica-assignment 1:2:3,2:3:1
  printf '{"version":1,"partitions":[{"topic":"%s","partition":0,"replicas":[4,1,2]},{"topic":"%s","partition":1,"replicas":[2,4,1]}]}' "$moved" "$moved" >"$scratch/moves.json"
  reassign --execute --throttle 20000000 >"$scratch/o"
  has "$scratch/o" "The inter-broker throttle limit was set to 20000000 B/s"
  has "$scratch/o" "Successfully started partition reassignments"
  configs --describe --entity-type brokers --entity-name 4 >"$scratch/o"
  has "$scratch/o" "follower.replication.throttled.rate=20000000"
  has "$scratch/o" "leader.replication.throttled.rate=20000000"
  configs --describe --entity-type topics --entity-name "$moved" >"$scratch/o"
  has "$scratch/o" "follower.replication.throttled.replicas=0:4,1:4"
  is_complete() { reassign --verify >"$scratch/o" && equals "$(grep -c "is completed" "$scratch/o")" 2; }
  eventually 60 is_complete
  has "$scratch/o" "Clearing broker-level throttles"
  configs --describe --entity-type brokers --entity-name 4 >"$scratch/o"
  lacks "$scratch/o" "throttled"
  configs --describe --entity-type topics --entity-name "$moved" >"$scratch/o"
  lacks "$scratch/o" "throttled"
  topics --delete --topic "$moved"
}

# Another cluster: node 5 is a controller only, and node 6 its broker.
controller_up() {
  local voters
  voters=5@127.0.0.1:$(free_port)
  (umask 077; head -c 32 /dev/urandom | base64 >"$BROKER_DIR/secret-5")
  set -- --memory 768M --set "controller_quorum_voters=$voters" --set "cluster_secret_file=$BROKER_DIR/secret-5"
  BROKER_PORTS[4]=$(free_port)
  BROKER_PORTS[5]=$(free_port)
  broker_start 5 "$@" --set process_roles=controller
  broker_start 6 "$@" --set process_roles=broker --set "cluster_listen=127.0.0.1:$(free_port)"
  broker_wait 5
  broker_wait 6
}
through_controller() {
  local controller=127.0.0.1:${BROKER_PORTS[4]} broker=127.0.0.1:${BROKER_PORTS[5]} status=0
  main org.apache.kafka.tools.MetadataQuorumCommand --bootstrap-controller "$controller" describe --status >"$scratch/o"
  grep -qE '^LeaderId: +5$' "$scratch/o" || { cat "$scratch/o"; return 1; }
  main kafka.admin.ConfigCommand --bootstrap-controller "$controller" --alter --entity-type brokers --entity-default --add-config log.retention.bytes=70000000000 >"$scratch/o"
  main kafka.admin.ConfigCommand --bootstrap-server "$broker" --describe --entity-type brokers --entity-default >"$scratch/o"
  has "$scratch/o" "log.retention.bytes=70000000000"
  main org.apache.kafka.tools.TopicCommand --bootstrap-server "$broker" --create --topic through-broker
  main org.apache.kafka.tools.TopicCommand --bootstrap-server "$controller" --list >"$scratch/o" 2>&1 || status=$?
  [ $status != 0 ]
  has "$scratch/o" "UnsupportedVersionException"
  main org.apache.kafka.tools.MetadataQuorumCommand --bootstrap-controller "$broker" describe --status >"$scratch/o" 2>&1 || true
  has "$scratch/o" "we wanted an endpoint of type CONTROLLER"
}

cluster_cases() {
  [ "${#BROKER_PIDS[@]}" -ge 1 ] || return 0
  if [ "${#BROKER_PIDS[@]}" -ge 3 ]; then of_several_brokers; fi
  controller_up
  test_case "kafka-metadata-quorum and kafka-configs talk to a node that is a controller only" through_controller
}
of_several_brokers() {
  broker_join 4
  test_case "kafka-metadata-quorum lets a fourth node vote" added
  test_case "kafka-metadata-quorum takes the vote of another one" exchanged
  test_case "kafka-metadata-quorum gives it back" removed
  test_case "kafka-reassign-partitions holds a move to a rate, and takes that away" throttled_move
}
