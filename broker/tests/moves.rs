//! Connections that move to the core that they need: clients see nothing of it.

mod client;
mod harness;

use client::Client;
use harness::{RunningBroker, sum_of};
use protocol::ErrorCode;
use protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::wire::Few;

const FETCH_VERSION: i16 = 12;
const TOPIC: &str = "t";
/// More than two windows of what decides about a move.
const FETCHES: i32 = 200;
/// Each has an even chance to be where it belongs from the beginning.
const CONNECTIONS: usize = 24;

fn moves(broker: &RunningBroker) -> f64 {
    let (status, metrics) = broker.http_get("/metrics");
    assert_eq!(status, 200);
    let sum = |name: &str| sum_of(&metrics, &format!("kafka_server_socket_server_metrics_{name}"));
    assert_eq!(sum("connection_moved_away_total"), sum("connection_moved_here_total"));
    sum("connection_moved_here_total")
}

/// A topic of one partition.
fn create_topic(broker: &RunningBroker) {
    let name = TOPIC.into();
    let topic = CreatableTopic { name, num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let error = Client::new(broker).call(&request, 7, |response| ErrorCode(response.topics[0].error_code));
    assert_eq!(error, ErrorCode::NONE);
}

/// One fetch; the error and the session's id.
fn fetch(client: &mut Client, session_id: i32, session_epoch: i32) -> (ErrorCode, i32) {
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: TOPIC.into(), partitions: Few::one(partition), ..Default::default() };
    let topics = if session_epoch == 0 { Few::one(topic) } else { Few::new() };
    let request = FetchRequest { session_id, session_epoch, topics, ..Default::default() };
    client.call(&request, FETCH_VERSION, |response| (ErrorCode(response.error_code), response.session_id))
}

#[test]
fn fetch_sessions_go_on_when_their_connections_move() {
    let broker = RunningBroker::start(&["--cores", "0-1"]);
    create_topic(&broker);
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| Client::new(&broker)).collect();
    for client in &mut clients {
        let (error, session) = fetch(client, 0, 0);
        assert!(error == ErrorCode::NONE && session != 0);
        for epoch in 1..FETCHES {
            assert_eq!(fetch(client, session, epoch), (ErrorCode::NONE, session));
        }
    }
    assert!(moves(&broker) > 0.0, "none of {CONNECTIONS} connections was on the wrong core");
    assert_eq!(broker.terminate(), Some(0));
}

#[test]
fn without_connection_moves_all_stay() {
    let broker = RunningBroker::start(&["--cores", "0-1", "--set", "connection_moves=false"]);
    create_topic(&broker);
    for mut client in (0..4).map(|_| Client::new(&broker)) {
        let (_, session) = fetch(&mut client, 0, 0);
        for epoch in 1..FETCHES {
            assert_eq!(fetch(&mut client, session, epoch).0, ErrorCode::NONE);
        }
    }
    assert_eq!(moves(&broker), 0.0);
}
