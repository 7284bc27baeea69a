//! The real binary, as an operator and as strangers on the network meet it.

mod client;
mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use client::Client;
use harness::{RunningBroker, broker_command};
use protocol::messages::metadata::MetadataRequest;

#[test]
fn cores_that_the_machine_lacks_are_refused_with_one_paragraph() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = broker_command(dir.path()).args(["--cores", "0,1000-1007"]).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("this machine has no cores 1000-1007. Usable: --cores"), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
}

#[test]
fn a_mistyped_setting_is_refused_with_the_nearest_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output =
        broker_command(dir.path()).args(["--check", "--set", "num.partitons=3"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(
        text,
        "broker: command line: there is no setting num.partitons; did you mean num_partitions?\n"
    );
}

#[test]
fn a_port_that_another_broker_uses_is_refused() {
    let first = RunningBroker::start(&[]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["--listen", &first.kafka.to_string(), "--admin", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path())
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("Another process uses the port"), "{text}");
    first.terminate();
}

#[test]
fn sigterm_ends_it_cleanly_also_with_clients_connected() {
    let broker = RunningBroker::start(&[]);
    let mut client = TcpStream::connect(broker.kafka).expect("connected");
    let ready_file = broker.ready_file.clone();
    assert_eq!(broker.terminate(), Some(0));
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert!(!ready_file.exists(), "the ready file is gone");
}

#[test]
fn health_metrics_and_json_are_served_on_the_admin_port() {
    let broker = RunningBroker::start(&["--node-id", "7"]);
    assert_eq!(broker.http_get("/health/live"), (200, "live\n".into()));
    assert_eq!(broker.http_get("/health/ready"), (200, "ready\n".into()));
    assert_eq!(broker.http_get("/nothing").0, 404);
    let (_, node) = broker.http_get("/v1/node");
    let node: serde_json::Value = serde_json::from_str(&node).expect("JSON");
    assert_eq!(node["node_id"], 7);
    let (_, metrics) = broker.http_get("/metrics");
    assert!(
        metrics.contains("kafka_server_socket_server_metrics_connection_count{shard=\"0\"} 0\n"),
        "{metrics}"
    );
    assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
    broker.terminate();
}

#[test]
fn every_metric_that_the_operations_guide_names_exists() {
    let guide = include_str!("../../docs/operations.md");
    let broker = RunningBroker::start(&[]);
    // Metrics by request type exist once there was a request.
    Client::new(&broker).call(&MetadataRequest::default(), 12, |_| ());
    let (_, metrics) = broker.http_get("/metrics");
    let words = guide.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    // Some settings begin like metrics.
    let settings = include_str!("../../tools/broker.example.toml");
    let is_setting = |word: &str| settings.lines().any(|line| line.starts_with(&format!("#{word} = ")));
    let is_metric = |word: &&str| {
        ["broker_", "kafka_", "process_"].iter().any(|start| word.starts_with(start)) && !is_setting(word)
    };
    let named: Vec<&str> = words.filter(is_metric).collect();
    assert!(named.len() > 10, "{named:?}");
    // For these a test of clusters looks.
    let exists =
        |name: &str| harness::METRICS_OF_A_CLUSTER.contains(&name) || harness::has_metric(&metrics, name);
    let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:?} not in\n{metrics}");
    broker.terminate();
}

#[test]
fn strangers_that_speak_no_kafka_are_sent_away_and_the_broker_stays() {
    let broker = RunningBroker::start(&[]);
    let tls_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let two_gib = 0x7fff_ffff_i32.to_be_bytes();
    let unknown_key = [&12i32.to_be_bytes()[..], &[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]].concat();
    let inputs: [&[u8]; 5] = [b"GET / HTTP/1.1\r\n\r\n", &tls_hello, &two_gib, &[0xee; 1000], &unknown_key];
    for input in inputs {
        let mut client = TcpStream::connect(broker.kafka).expect("connected");
        client.set_read_timeout(Some(harness::DEADLINE)).expect("set");
        client.write_all(input).expect("sent");
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)), "{input:?}");
    }
    assert_eq!(broker.http_get("/health/ready").0, 200);
    let (_, metrics) = broker.http_get("/metrics");
    let garbage: f64 =
        harness::sum_of(&metrics, "kafka_server_socket_server_metrics_connection_garbage_total");
    assert_eq!(garbage, 4.0, "the unknown request type was refused by its handler\n{metrics}");
    assert_eq!(broker.terminate(), Some(0));
}

#[test]
fn silent_connections_hold_next_to_no_memory() {
    const CONNECTIONS: usize = 2000;
    let broker = RunningBroker::start(&[]);
    let before = broker.resident_bytes();
    let silent: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(broker.kafka).expect("connected")).collect();
    let name = "kafka_server_socket_server_metrics_connection_count";
    harness::wait_until(|| broker.metric(name) == CONNECTIONS as f64);
    let each = broker.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    println!("{each} bytes for each silent connection");
    assert!(each < 16 * 1024, "{each} bytes for each silent connection");
    drop(silent);
    harness::wait_until(|| broker.metric(name) == 0.0);
    broker.terminate();
}
