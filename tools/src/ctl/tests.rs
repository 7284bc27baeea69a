//! `brokerctl` against a fake broker: what a user types, and what comes out.

use clap::{CommandFactory, Parser};

use super::fake_broker::FakeBroker;
use super::{Cli, run};

const NOT_LEADER: i16 = 6;

/// Runs one command line with `input`; gives what it printed, or the exit code and the message.
fn brokerctl(broker: &FakeBroker, line: &str, input: &str) -> Result<String, (u8, String)> {
    let words = ["brokerctl", "--bootstrap", &broker.address].into_iter().chain(line.split(' '));
    let cli = Cli::try_parse_from(words).map_err(|error| (2, error.to_string()))?;
    let mut out = Vec::new();
    run(&cli, &mut input.as_bytes(), &mut out).map_err(|error| (error.exit_code(), error.to_string()))?;
    Ok(String::from_utf8(out).expect("the tests print text"))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn lines_go_in_and_come_out_again_with_their_keys_and_headers() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t -K : -H from=test", "a:one\nb:two\nno separator\n").expect("written");
    let shown = brokerctl(&broker, r"consume t --format %o/%k/%s/%h\n", "").expect("read");
    assert_eq!(shown, "0/a/one/from=test\n1/b/two/from=test\n2//no separator/from=test\n");
}

#[test]
fn every_compression_and_idempotence_give_the_same_lines_back() {
    for options in ["-z gzip", "-z snappy", "-z lz4", "-z zstd", "--idempotent", "--acks 1"] {
        let broker = FakeBroker::start().with_topic("t", 1);
        brokerctl(&broker, &format!("produce t {options}"), "one\n\ntwo").expect("written");
        assert_eq!(brokerctl(&broker, "consume t", "").expect("read"), "one\n\ntwo\n", "{options}");
    }
}

#[test]
fn equal_keys_go_to_the_same_partition_and_a_partition_can_be_chosen() {
    let broker = FakeBroker::start().with_topic("t", 4);
    brokerctl(&broker, "produce t --key k", "1\n2\n3\n").expect("written");
    let shown = brokerctl(&broker, r"consume t --format %p", "").expect("read");
    assert!(shown.len() == 3 && shown.chars().all(|partition| shown.starts_with(partition)), "{shown}");
    brokerctl(&broker, "produce t --partition 3", "x\n").expect("written");
    assert!(brokerctl(&broker, "consume t --partition 3", "").expect("read").ends_with("x\n"));
}

#[test]
fn reading_starts_and_stops_where_it_was_told() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t", "a\nb\nc\nd\n").expect("written");
    for (options, lines) in [
        ("--from 2", "c\nd\n"),
        ("--from -1", "d\n"),
        ("--from earliest --count 2", "a\nb\n"),
        ("--from latest", ""),
        ("--follow --count 4", "a\nb\nc\nd\n"),
    ] {
        assert_eq!(
            brokerctl(&broker, &format!("consume t {options}"), "").expect("read"),
            lines,
            "{options}"
        );
    }
}

#[test]
fn json_tells_null_from_empty() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t -K : --null-empty", "k:\nno key\n").expect("written");
    let shown = brokerctl(&broker, "--json consume t", "").expect("read");
    let rows: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&rows[0]["key"], &rows[0]["value"]), (&"k".into(), &serde_json::Value::Null));
    assert_eq!((&rows[1]["key"], &rows[1]["value"]), (&serde_json::Value::Null, &"no key".into()));
    assert_eq!(rows[1]["offset"], 1);
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let broker = FakeBroker::start();
    assert_eq!(
        brokerctl(&broker, "topic create orders --partitions 3", "").expect("created"),
        "orders: created\n"
    );
    let listed = brokerctl(&broker, "topic list", "").expect("listed");
    assert!(
        listed.lines().nth(1).is_some_and(|row| row.starts_with("orders") && row.contains('3')),
        "{listed}"
    );
    let described = brokerctl(&broker, "topic describe orders", "").expect("described");
    assert_eq!(described.lines().count(), 5, "{described}");
    let (code, message) = brokerctl(&broker, "topic create orders", "").expect_err("exists");
    assert!(code == 1 && message.contains("TOPIC_ALREADY_EXISTS"), "{message}");
    brokerctl(&broker, "topic create orders --if-not-exists", "").expect("no failure");
    assert_eq!(brokerctl(&broker, "topic delete orders", "").expect("deleted"), "orders: deleted\n");
    let (code, message) = brokerctl(&broker, "topic describe orders", "").expect_err("gone");
    assert!(code == 4 && message.contains("'orders'"), "{message}");
}

#[test]
fn a_passing_error_and_a_broken_connection_are_tried_again() {
    let broker = FakeBroker::start().with_topic("t", 1);
    broker.refuse_next(&[NOT_LEADER]);
    broker.hang_up(1);
    brokerctl(&broker, "produce t", "once\n").expect("written at the third try");
    assert_eq!(brokerctl(&broker, "consume t", "").expect("read"), "once\n");
    assert_eq!((broker.produced(), broker.log("t", 0).map(|log| log.end)), (2, Some(1)));
}

#[test]
fn failures_have_their_own_exit_codes() {
    let broker = FakeBroker::start().with_topic("t", 1);
    let code = |line: &str| brokerctl(&broker, line, "x\n").expect_err("fails").0;
    assert_eq!(code("consume missing"), 4);
    assert_eq!(code("consume t --partition 7"), 4);
    assert_eq!(code("consume t --format %q"), 2);
    assert_eq!(code("produce t --acks 2"), 2);
    assert_eq!(code("produce t --file /does/not/exist"), 5);
    assert_eq!(code("log dump /does/not/exist"), 5);
    broker.refuse_next(&[10]);
    assert_eq!(code("produce t"), 1, "MESSAGE_TOO_LARGE does not pass");
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let gone = nobody.local_addr().expect("bound").to_string();
    drop(nobody);
    assert_eq!(code(&format!("topic list --bootstrap {gone}")), 3);
}

#[test]
fn an_unknown_topic_is_answered_with_the_one_that_was_probably_meant() {
    let broker = FakeBroker::start().with_topic("orders", 1).with_topic("payments", 1);
    let (code, message) = brokerctl(&broker, "consume ordres", "").expect_err("misspelt");
    assert_eq!((code, message.as_str()), (4, "there is no topic 'ordres'; did you mean 'orders'?"));
    let (_, message) = brokerctl(&broker, "topic delete greetings", "").expect_err("not there");
    assert_eq!(message, "there is no topic 'greetings'");
}

#[test]
fn several_topics_are_read_together() {
    let broker = FakeBroker::start().with_topic("a", 1).with_topic("b", 2);
    brokerctl(&broker, "produce a", "one\n").expect("written");
    brokerctl(&broker, "produce b --partition 1", "two\n").expect("written");
    assert_eq!(
        brokerctl(&broker, r"consume a b --format %t-%p:%s\n", "").expect("read"),
        "a-0:one\nb-1:two\n"
    );
    assert_eq!(brokerctl(&broker, "consume a b --partition 0", "").expect_err("ambiguous").0, 2);
}

#[test]
fn json_that_was_read_can_be_written_again() {
    let broker = FakeBroker::start().with_topic("a", 2).with_topic("b", 2);
    brokerctl(&broker, "produce a -K : -H h=1 --null NULL --partition 1", "k:v\nk:NULL\n").expect("written");
    let saved = brokerctl(&broker, "--json consume a", "").expect("read");
    brokerctl(&broker, "produce b --json-input", &saved).expect("written");
    let copied = brokerctl(&broker, "--json consume b", "").expect("read");
    assert_eq!(copied, saved.replace("\"topic\":\"a\"", "\"topic\":\"b\""));
    let (code, message) = brokerctl(&broker, "produce b --json-input", "{}\n{\n").expect_err("no JSON");
    assert!(code == 1 && message.starts_with("record 2 of the input: "), "{message}");
}

#[test]
fn numbers_and_other_delimiters_go_in_and_out() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, r"produce t --delimiter ; --value-type int64", "1;-2").expect("written");
    assert_eq!(brokerctl(&broker, "consume t --value-type int64", "").expect("read"), "1\n-2\n");
    assert_eq!(
        brokerctl(&broker, "consume t --value-type hex --count 1", "").expect("read"),
        "0000000000000001\n"
    );
    let (code, message) = brokerctl(&broker, "consume t --value-type int32", "").expect_err("of 8 bytes");
    assert!(
        code == 1 && message.contains("t-0 at offset 0") && message.contains("--value-type hex"),
        "{message}"
    );
}

#[test]
fn reading_can_stop_at_an_offset() {
    let broker = FakeBroker::start().with_topic("t", 1);
    brokerctl(&broker, "produce t", "a\nb\nc\n").expect("written");
    assert_eq!(brokerctl(&broker, "consume t --until 2", "").expect("read"), "a\nb\n");
    assert_eq!(brokerctl(&broker, "consume t --until 99", "").expect("read"), "a\nb\nc\n");
}

#[test]
fn manual_pages_describe_every_subcommand() {
    let broker = FakeBroker::start();
    let page = brokerctl(&broker, "man group reset", "").expect("printed");
    assert!(page.contains(".TH brokerctl-group-reset 1") && page.contains("shift"), "{page}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    brokerctl(&broker, &format!("man --dir {}", dir.path().display()), "").expect("written");
    for page in ["brokerctl.1", "brokerctl-topic-alter.1", "brokerctl-config-set.1", "brokerctl-consume.1"] {
        assert!(dir.path().join(page).exists(), "{page}");
    }
}

#[test]
fn completions_name_the_subcommands() {
    let broker = FakeBroker::start();
    let script = brokerctl(&broker, "completions bash", "").expect("printed");
    assert!(script.contains("describe") && script.contains("--follow"));
}
