//! The client as an agent of `groups/agent.py`, which describes the commands and answers.

use crate::client::{Client, DEADLINE, replication_factor};
use crate::row::Row;
use futures_executor::block_on;
use rdkafka::admin::{
    AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, ClientContext, Offset};
use serde_json::{Map, Value, json};
use std::io::BufRead;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

const POLL: Duration = Duration::from_millis(50);
// Without "config_errors": the crate drops what the broker says of a resource.
const FEATURES: &str = "eager cooperative consumer exact static static_consumer fenced pattern commit commit_any committed \
    auto_commit none create_topic create_partitions produce list_groups delete_group configs replace_configs delete_records";

/// Kafka's number of the error, or none when the client itself refuses; and its text.
struct Refusal(Option<i32>, String);

impl From<KafkaError> for Refusal {
    fn from(error: KafkaError) -> Refusal {
        Refusal(error.rdkafka_error_code().and_then(number), error.to_string())
    }
}

impl From<RDKafkaErrorCode> for Refusal {
    fn from(code: RDKafkaErrorCode) -> Refusal {
        Refusal(number(code), code.to_string())
    }
}

type Answer = Result<Value, Refusal>;

/// The library's own errors are negative.
fn number(code: RDKafkaErrorCode) -> Option<i32> {
    Some(code as i32).filter(|number| *number > 0)
}

fn say(message: &Value) {
    println!("{message}");
}

fn name(topic: &str, partition: i32) -> String {
    format!("{topic}:{partition}")
}

fn split(name: &str) -> (&str, i32) {
    let (topic, partition) = name.rsplit_once(':').expect("topic:partition");
    (topic, partition.parse().expect("a number"))
}

/// Tells what happens to a member.
struct Told;

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn tell(kind: &str, partitions: &TopicPartitionList) {
    let names: Vec<_> = partitions.elements().iter().map(|p| name(p.topic(), p.partition())).collect();
    let at = now().as_secs_f64();
    say(&json!({"event": kind, "partitions": names, "at": at}));
}

impl ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().and_then(number);
        say(&json!({"event": "error", "code": code, "message": format!("{error}: {reason}")}));
    }
}

impl ConsumerContext for Told {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Told>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            tell(if consumer.assignment_lost() { "lost" } else { "revoked" }, partitions);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Told>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            tell("assigned", partitions);
        }
    }
}

fn first_error(partitions: &TopicPartitionList) -> Result<(), KafkaError> {
    partitions.elements().iter().try_for_each(|partition| partition.error())
}

pub fn run(bootstrap: &str, client: &Client) -> ! {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let line = line.expect("a line");
            sender.send(serde_json::from_str::<Value>(&line).expect("JSON")).expect("a receiver");
        }
        std::process::exit(0);
    });
    let mut agent = Agent { bootstrap, client, member: None };
    loop {
        let command = match agent.member {
            Some(_) => commands.try_recv().ok(),
            None => commands.recv().ok(),
        };
        match command {
            None => agent.poll(),
            Some(command) => say(&match agent.answer(&command) {
                Ok(result) => json!({"id": command["id"], "ok": result}),
                Err(Refusal(code, text)) => json!({"id": command["id"], "error": code, "message": text}),
            }),
        }
    }
}

struct Agent<'a> {
    bootstrap: &'a str,
    client: &'a Client,
    member: Option<BaseConsumer<Told>>,
}

impl Agent<'_> {
    fn answer(&mut self, command: &Value) -> Answer {
        let text = |key: &str| command[key].as_str().unwrap_or_default();
        let count = |key: &str| command[key].as_i64().unwrap_or_default();
        match text("do") {
            "features" => Ok(FEATURES.split_whitespace().map(Value::from).collect()),
            "join" => self.join(command),
            "commit" => self.commit(&command["offsets"], text("how")),
            "committed" => self.committed(&command["partitions"]),
            "close" => {
                self.member = None;
                Ok(Value::Null)
            }
            "create_topic" => {
                let replicas = TopicReplication::Fixed(replication_factor());
                let topic = NewTopic::new(text("topic"), count("partitions") as i32, replicas);
                let answer = block_on(self.client.admin.create_topics([&topic], &AdminOptions::new()))?;
                only(answer).map(|_| Value::Null).map_err(|(_, code)| code.into())
            }
            "create_partitions" => {
                let wanted = NewPartitions::new(text("topic"), count("count") as usize);
                let answer = block_on(self.client.admin.create_partitions([&wanted], &AdminOptions::new()))?;
                only(answer).map(|_| Value::Null).map_err(|(_, code)| code.into())
            }
            "produce" => {
                let row = Row::new(count("partition") as i32, now().as_millis() as i64, b"v");
                self.client.produce(text("topic"), &vec![row; count("count") as usize], &[])?;
                Ok(Value::Null)
            }
            "list_groups" => {
                let list = self.client.admin.inner().fetch_group_list(None, DEADLINE)?;
                let states = list.groups().iter().map(|group| (group.name().to_owned(), Value::Null));
                Ok(Value::Object(states.collect()))
            }
            "delete_group" => {
                let answer =
                    block_on(self.client.admin.delete_groups(&[text("group")], &AdminOptions::new()))?;
                only(answer).map(|_| Value::Null).map_err(|(_, code)| code.into())
            }
            "configs" => {
                let resource = ResourceSpecifier::Topic(text("topic"));
                let answer = block_on(self.client.admin.describe_configs([&resource], &AdminOptions::new()))?;
                let entries = only(answer)?.entries;
                if entries.is_empty() {
                    return Err(Refusal(None, "the crate keeps the error to itself".to_owned()));
                }
                let entries = entries.into_iter();
                Ok(Value::Object(entries.map(|entry| (entry.name, entry.value.into())).collect()))
            }
            "replace_configs" => {
                let none = Map::new();
                let mut change = AlterConfig::new(ResourceSpecifier::Topic(text("topic")));
                for (name, value) in command["set"].as_object().unwrap_or(&none) {
                    change = change.set(name, value.as_str().unwrap_or_default());
                }
                let answer = block_on(self.client.admin.alter_configs([&change], &AdminOptions::new()))?;
                only(answer).map(|_| Value::Null).map_err(|(_, code)| code.into())
            }
            "delete_records" => {
                let before = match count("before") {
                    -1 => Offset::End,
                    offset => Offset::Offset(offset),
                };
                let mut wanted = TopicPartitionList::new();
                wanted.add_partition_offset(text("topic"), count("partition") as i32, before)?;
                let answer = block_on(self.client.admin.delete_records(&wanted, &AdminOptions::new()))?;
                first_error(&answer)?;
                Ok(answer.elements()[0].offset().to_raw().into())
            }
            verb => Err(Refusal(None, format!("no verb {verb}"))),
        }
    }

    fn join(&mut self, command: &Value) -> Answer {
        let text = |key: &str| command[key].as_str();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap)
            .set("client.id", "member")
            .set("group.id", text("group").unwrap_or_default())
            .set("fetch.wait.max.ms", "100")
            .set("topic.metadata.refresh.interval.ms", "500")
            .set("auto.offset.reset", if text("reset") == Some("none") { "error" } else { "earliest" })
            .set("enable.auto.commit", command["auto_commit"].to_string())
            .set("auto.commit.interval.ms", "200");
        if let Some(instance) = text("instance") {
            config.set("group.instance.id", instance);
        }
        match text("assignor") {
            Some("consumer") => config.set("group.protocol", "consumer"),
            assignor => config
                .set("session.timeout.ms", command["session_ms"].to_string())
                .set("heartbeat.interval.ms", command["heartbeat_ms"].to_string())
                .set(
                    "partition.assignment.strategy",
                    if assignor == Some("eager") { "range" } else { "cooperative-sticky" },
                ),
        };
        let member: BaseConsumer<Told> = config.create_with_context(Told)?;
        match text("pattern") {
            Some(pattern) => member.subscribe(&[&format!("^{pattern}")])?,
            None => {
                let topics = command["topics"].as_array().into_iter().flatten();
                member.subscribe(&topics.filter_map(Value::as_str).collect::<Vec<_>>())?;
            }
        }
        self.member = Some(member);
        Ok(Value::Null)
    }

    fn poll(&self) {
        let Some(member) = &self.member else { return };
        match member.poll(POLL) {
            None => {}
            Some(Ok(message)) => say(&json!({
                "event": "record",
                "partition": name(message.topic(), message.partition()),
                "offset": message.offset(),
            })),
            Some(Err(error)) => {
                // A fatal error hides the one that it comes from.
                let fatal = member.client().fatal_error().map(|(code, _)| code);
                let code = fatal.or(error.rdkafka_error_code()).and_then(number);
                say(&json!({"event": "error", "code": code, "message": error.to_string()}));
            }
        }
    }

    fn member(&self) -> Result<&BaseConsumer<Told>, Refusal> {
        self.member.as_ref().ok_or_else(|| Refusal(None, "this agent has not joined".to_owned()))
    }

    fn commit(&self, offsets: &Value, how: &str) -> Answer {
        let member = self.member()?;
        let mut wanted = TopicPartitionList::new();
        for (name, value) in offsets.as_object().into_iter().flatten() {
            let (topic, partition) = split(name);
            let mut element = wanted.add_partition(topic, partition);
            element.set_offset(Offset::Offset(value[0].as_i64().expect("an offset")))?;
            element.set_metadata(value[1].as_str().expect("metadata"));
        }
        if how == "sync" {
            member.commit(&wanted, CommitMode::Sync)?;
            first_error(&wanted)?;
            return Ok(Value::Null);
        }
        // Nobody tells what becomes of it: that is seen in what is committed.
        member.commit(&wanted, CommitMode::Async)?;
        let names =
            Value::Array(offsets.as_object().into_iter().flatten().map(|(name, _)| json!(name)).collect());
        let deadline = Instant::now() + DEADLINE;
        while self.committed(&names)? != *offsets {
            if Instant::now() > deadline {
                return Err(Refusal(None, "an asynchronous commit is not to be seen".to_owned()));
            }
            self.poll();
        }
        Ok(Value::Null)
    }

    fn committed(&self, partitions: &Value) -> Answer {
        let mut wanted = TopicPartitionList::new();
        for name in partitions.as_array().into_iter().flatten().filter_map(Value::as_str) {
            let (topic, partition) = split(name);
            wanted.add_partition(topic, partition);
        }
        let found = self.member()?.committed_offsets(wanted, DEADLINE)?;
        first_error(&found)?;
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        let told = found.elements().into_iter().map(|element| {
            let key = name(element.topic(), element.partition());
            (key, json!([offset(element.offset()), element.metadata()]))
        });
        Ok(Value::Object(told.collect()))
    }
}

fn only<T>(answers: Vec<T>) -> T {
    answers.into_iter().next().expect("one answer to one request")
}
