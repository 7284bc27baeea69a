//! `brokerctl` against the real broker: what an operator types, and what comes out.

mod harness;

use harness::RunningBroker;
use harness::brokerctl::{brokerctl, json, numbers, try_brokerctl};
use serde_json::Value;

#[test]
fn a_topic_is_made_described_changed_and_deleted() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders --partitions 3 --config retention.ms=3600000", "");
    brokerctl(&broker, "produce orders --partition 1 --compression zstd", &numbers(1..=50));
    let topic = json(&broker, "topic describe orders");
    assert_eq!(topic["configs"]["retention.ms"], "3600000");
    assert_eq!(topic["partitions"][1]["log_end_offset"], 50);
    assert!(topic["partitions"][1]["bytes"].as_u64() > Some(0), "{topic}");
    assert_eq!(topic["partitions"][2]["bytes"], 0);
    brokerctl(
        &broker,
        "topic alter orders --partitions 5 --set max.message.bytes=2000000 --unset retention.ms",
        "",
    );
    let topic = json(&broker, "topic describe orders");
    assert_eq!(topic["partitions"].as_array().map(Vec::len), Some(5));
    assert_eq!(topic["configs"], serde_json::json!({ "max.message.bytes": "2000000" }));
    let (code, message) = try_brokerctl(&broker, "topic alter orders --partitions 2", "").expect_err("fewer");
    assert!(code == 1 && message.contains("INVALID_PARTITIONS"), "{message}");
    let (code, message) = try_brokerctl(&broker, "topic delete ordres", "").expect_err("misspelt");
    assert!(code == 4 && message.contains("did you mean 'orders'?"), "{message}");
    brokerctl(&broker, "topic delete orders", "");
    assert_eq!(json(&broker, "topic list"), serde_json::json!([]));
}

#[test]
fn records_keep_keys_headers_and_times_on_their_way_through_a_file() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create a --partitions 2", "");
    brokerctl(&broker, "topic create b --partitions 2", "");
    brokerctl(&broker, "produce a -K : -H from=test --null NULL --idempotent -z lz4", "k:v\nk:NULL\nl:w\n");
    let saved = brokerctl(&broker, "--json consume a", "");
    brokerctl(&broker, "produce b --json-input", &saved);
    let copied = brokerctl(&broker, "--json consume b", "");
    assert_eq!(copied, saved.replace("\"topic\":\"a\"", "\"topic\":\"b\""));
    let shown = brokerctl(&broker, r"consume b --format %k=%s/%H{from}\n --null ~ --from @-1h", "");
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["k=v/test", "k=~/test", "l=w/test"]);
    assert_eq!(brokerctl(&broker, "consume b --until @-1h", ""), "");
}

#[test]
fn a_group_goes_on_where_it_stopped_and_its_lag_is_known() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders --partitions 3", "");
    brokerctl(&broker, "produce orders --partition 2", &numbers(1..=100));
    assert_eq!(brokerctl(&broker, "consume orders --group billing --count 60", ""), numbers(1..=60));
    let group = json(&broker, "group describe billing");
    assert_eq!(
        (&group["lag"], &group["state"], &group["type"]),
        (&40.into(), &"Empty".into(), &"consumer".into())
    );
    assert_eq!(brokerctl(&broker, "consume orders --group billing", ""), numbers(61..=100));
    assert_eq!(json(&broker, "group describe billing")["lag"], 0);
    let listed = json(&broker, "group list --type consumer --state empty");
    assert_eq!(listed[0]["group"], "billing", "{listed}");
    assert_eq!(json(&broker, "group list --type classic"), serde_json::json!([]));
    let (code, message) = try_brokerctl(&broker, "group describe biling", "").expect_err("misspelt");
    assert!(code == 4 && message.contains("did you mean 'billing'?"), "{message}");
}

#[test]
fn a_reset_shows_what_it_would_do_and_does_it_only_when_told() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders --partitions 2", "");
    brokerctl(&broker, "produce orders --partition 0", &numbers(1..=10));
    brokerctl(&broker, "group reset billing --topic orders:0 --to-offset 7 --execute", "");
    assert_eq!(json(&broker, "group describe billing")["lag"], 3);
    let plan = brokerctl(&broker, "group reset billing --all-topics --to-earliest", "");
    assert!(plan.ends_with("Nothing has been changed. To do it, add --execute.\n"), "{plan}");
    assert_eq!(json(&broker, "group describe billing")["lag"], 3);
    brokerctl(&broker, "group reset billing --all-topics --shift-by -100 --execute", "");
    assert_eq!(json(&broker, "group describe billing")["lag"], 10, "it stops at the first record");
    brokerctl(&broker, "group reset billing --topic orders --to-datetime -1h --execute", "");
    brokerctl(&broker, "group reset billing --topic orders --to-latest --execute", "");
    let exported = brokerctl(&broker, "group reset billing --all-topics --shift-by 0 --export", "");
    assert_eq!(exported, "orders,0,10\norders,1,0\n");
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), "orders,0,4\n").expect("written");
    let line = format!("group reset billing --from-file {} --execute", file.path().display());
    brokerctl(&broker, &line, "");
    assert_eq!(json(&broker, "group describe billing")["lag"], 6);
    brokerctl(&broker, "group delete billing --topic orders:0", "");
    assert_eq!(json(&broker, "group describe billing")["partitions"].as_array().map(Vec::len), Some(1));
    brokerctl(&broker, "group delete billing", "");
    assert_eq!(try_brokerctl(&broker, "group delete billing", "").expect_err("gone").0, 4);
    brokerctl(&broker, "group delete billing --if-exists", "");
}

#[test]
fn a_group_with_members_is_not_moved_from_under_them() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders", "");
    std::thread::scope(|scope| {
        let member =
            scope.spawn(|| brokerctl(&broker, "consume orders --group billing --follow --count 1", ""));
        let members = || match try_brokerctl(&broker, "--json group describe billing", "") {
            Ok(text) => {
                serde_json::from_str::<Value>(&text).expect("JSON")["members"].as_array().map(Vec::len)
            }
            Err(_) => None,
        };
        harness::wait_until(|| members() == Some(1));
        let reset = "group reset billing --topic orders --to-earliest";
        let (code, message) = try_brokerctl(&broker, &format!("{reset} --execute"), "").expect_err("active");
        assert!(code == 1 && message.contains("has 1 member (brokerctl at 127.0.0.1)"), "{message}");
        let plan = brokerctl(&broker, reset, "");
        assert!(plan.contains("stop them before --execute"), "{plan}");
        let (code, message) = try_brokerctl(&broker, "group delete billing", "").expect_err("active");
        assert!(code == 1 && message.contains("NON_EMPTY_GROUP"), "{message}");
        brokerctl(&broker, "produce orders", "the end\n");
        assert_eq!(member.join().expect("no panic"), "the end\n");
    });
    let group = json(&broker, "group describe billing");
    assert_eq!(
        (&group["members"], &group["lag"]),
        (&serde_json::json!([]), &0.into()),
        "it has left and committed"
    );
}

#[test]
fn settings_are_shown_with_where_they_come_from_and_changed() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders", "");
    brokerctl(&broker, "config set topic orders retention.ms=7200000 cleanup.policy=compact,delete", "");
    let get = |line: &str| json(&broker, &format!("config get {line}"))[0].clone();
    let entry = get("topic orders retention.ms");
    assert_eq!(
        (&entry["value"], &entry["source"], &entry["type"]),
        (&"7200000".into(), &"topic".into(), &"long".into())
    );
    assert!(entry["documentation"].as_str().is_some_and(|text| text.len() > 20), "{entry}");
    brokerctl(&broker, "config set topic orders cleanup.policy-=compact", "");
    assert_eq!(get("topic orders cleanup.policy")["value"], "delete");
    brokerctl(&broker, "config unset topic orders retention.ms", "");
    assert_eq!(get("topic orders retention.ms")["source"], "default");
    let (code, message) =
        try_brokerctl(&broker, "config get topic orders retention.mss", "").expect_err("misspelt");
    assert!(code == 4 && message.contains("did you mean 'retention.ms'?"), "{message}");
    for bad in ["retention.ms=soon", "no.such.thing=1"] {
        let (code, message) =
            try_brokerctl(&broker, &format!("config set topic orders {bad}"), "").expect_err("bad");
        assert!(code == 1 && message.contains("INVALID_CONFIG"), "{message}");
    }
    let listed = brokerctl(&broker, "config get broker 1 --all --verbose", "");
    assert!(listed.contains("log.retention"), "{listed}");
}

#[test]
fn old_records_are_deleted_when_told_twice() {
    let broker = RunningBroker::start(&[]);
    brokerctl(&broker, "topic create orders", "");
    brokerctl(&broker, "produce orders", &numbers(1..=10));
    brokerctl(&broker, "records delete orders --before 4", "");
    assert_eq!(brokerctl(&broker, "consume orders", ""), numbers(1..=10));
    brokerctl(&broker, "records delete orders --before 4 --execute", "");
    assert_eq!(brokerctl(&broker, "consume orders", ""), numbers(5..=10));
    let (code, message) = try_brokerctl(&broker, "consume orders --from 2", "").expect_err("gone");
    assert!(code == 1 && message.contains("orders-0 at offset 2"), "{message}");
}

#[test]
fn the_cluster_shows_its_broker_and_its_log_folder() {
    let broker = RunningBroker::start(&["--node-id", "7"]);
    let cluster = json(&broker, "cluster");
    assert_eq!((&cluster["controller"], &cluster["brokers"][0]["id"]), (&7.into(), &7.into()));
    assert_eq!(cluster["brokers"][0]["address"], broker.kafka.to_string());
    assert!(cluster["log_dirs"][0]["path"].as_str().is_some_and(|path| path.contains("data")), "{cluster}");
    assert!(brokerctl(&broker, "cluster", "").contains("LOG FOLDER"));
}
