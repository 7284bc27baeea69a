//! Random commands against a naive model: decisions, the image, the log and snapshots must all tell the same story.

use std::collections::{BTreeMap, BTreeSet};

use coord::CoordError;
use coord::config::ConfigResourceType;
use coord::group::GroupConfig;
use coord::metadata::decide::{
    AlterConfigs, ConfigChange, ConfigEdit, ConfigOp, ConfigRules, CreatePartitions, CreateTopicsOptions,
    NewTopic, RegisterBroker, TopicSelector, allocate_producer_ids, alter_configs, create_cluster,
    create_partitions, create_topics, delete_topics, register_broker, set_fencing, unregister_broker,
};
use coord::metadata::{DecideContext, MetadataImage, MetadataRecord, decode_entry, encode_entry};
use coord::types::BrokerId;
use proptest::prelude::*;
use uuid::Uuid;

/// What a user sees of a cluster, kept in the plainest way.
#[derive(Debug, Default, PartialEq)]
struct Model {
    topics: BTreeMap<String, (usize, usize, BTreeMap<String, String>)>,
    brokers: BTreeMap<i32, bool>,
    producer_ids: i64,
    session_ms: BTreeMap<String, i64>,
}

#[derive(Debug, Clone)]
enum Command {
    Register(i32, Option<String>),
    Fence(i32, bool),
    Unregister(i32),
    Create(Vec<(String, i32, i16)>, bool),
    Delete(Vec<String>),
    Grow(String, i32),
    Retention(String, Option<i64>),
    Session(String, Option<i64>),
    ProducerIds(i32),
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c.d", "c_d", "e.f.g", "e_f.g", "bad name", "", "h-1"])
        .prop_map(str::to_owned)
}

fn command() -> impl Strategy<Value = Command> {
    let rack = prop::option::of(prop::sample::select(vec!["r1".to_owned(), "r2".to_owned()]));
    prop_oneof![
        2 => (0..4i32, rack).prop_map(|(id, rack)| Command::Register(id, rack)),
        1 => (0..4i32, any::<bool>()).prop_map(|(id, fenced)| Command::Fence(id, fenced)),
        1 => (0..4i32).prop_map(Command::Unregister),
        4 => (prop::collection::vec((name(), -2..6i32, -2..4i16), 1..4), prop::bool::weighted(0.2))
            .prop_map(|(topics, validate_only)| Command::Create(topics, validate_only)),
        2 => prop::collection::vec(name(), 1..3).prop_map(Command::Delete),
        2 => (name(), 0..9i32).prop_map(|(topic, count)| Command::Grow(topic, count)),
        2 => (name(), prop::option::of(-3..10i64)).prop_map(|(topic, ms)| Command::Retention(topic, ms)),
        1 => (name(), prop::option::of(44_999..45_003i64)).prop_map(|(group, ms)| Command::Session(group, ms)),
        1 => (0..4i32).prop_map(Command::ProducerIds),
    ]
}

/// The system under test: an image, and the entries that led to it.
struct System {
    image: MetadataImage,
    log: Vec<Vec<u8>>,
    seed: u64,
}

impl System {
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn commit(&mut self, records: &[MetadataRecord]) {
        if !records.is_empty() {
            self.log.push(encode_entry(records));
            self.image.replay_all(records).unwrap();
        }
    }

    fn run(&mut self, command: &Command, model: &mut Model) {
        let mut seed = self.seed;
        let mut random = || Self::random(&mut seed);
        let mut context = DecideContext { random: &mut random };
        match command {
            Command::Register(id, rack) => {
                let incarnation_id = context.new_id();
                let registration = RegisterBroker {
                    id: BrokerId(*id),
                    incarnation_id,
                    rack: rack.clone(),
                    endpoints: Vec::new(),
                    fenced: false,
                };
                match register_broker(&self.image, registration, false) {
                    Ok(decision) => {
                        assert_ne!(model.brokers.get(id), Some(&false));
                        model.brokers.insert(*id, false);
                        self.commit(&decision.records);
                    }
                    Err(error) => {
                        assert_eq!(error, CoordError::DuplicateBrokerRegistration(*id));
                        assert_eq!(model.brokers.get(id), Some(&false));
                    }
                }
            }
            Command::Fence(id, fenced) => {
                let epoch = self.image.broker(BrokerId(*id)).map_or(-1, |broker| broker.broker_epoch);
                if let Ok(decision) = set_fencing(&self.image, BrokerId(*id), epoch, *fenced) {
                    *model.brokers.get_mut(id).unwrap() = *fenced;
                    self.commit(&decision.records);
                } else {
                    assert!(!model.brokers.contains_key(id));
                }
            }
            Command::Unregister(id) => {
                let decision = unregister_broker(&self.image, BrokerId(*id));
                assert_eq!(decision.is_ok(), model.brokers.remove(id).is_some());
                self.commit(&decision.map(|decision| decision.records).unwrap_or_default());
            }
            Command::Create(topics, validate_only) => {
                let topics: Vec<NewTopic> = topics
                    .iter()
                    .map(|(name, partitions, factor)| NewTopic {
                        name: name.clone(),
                        num_partitions: *partitions,
                        replication_factor: *factor,
                        ..NewTopic::default()
                    })
                    .collect();
                let options = CreateTopicsOptions {
                    validate_only: *validate_only,
                    default_partitions: 3,
                    default_replication_factor: 1,
                };
                let decision = create_topics(&self.image, &topics, options, &mut context).unwrap();
                let mut names: Vec<String> = model.topics.keys().cloned().collect();
                for (name, outcome) in &decision.reply {
                    let wanted: Vec<_> = topics.iter().filter(|topic| topic.name == *name).collect();
                    let brokers = model.brokers.len();
                    let active = model.brokers.values().filter(|fenced| !**fenced).count();
                    let partitions =
                        if wanted[0].num_partitions == -1 { 3 } else { wanted[0].num_partitions };
                    let factor = wanted[0].replication_factor.abs();
                    let collides =
                        names.iter().any(|other| other.replace('.', "_") == name.replace('.', "_"));
                    let possible = wanted.len() == 1
                        && !name.is_empty()
                        && !name.contains(' ')
                        && !collides
                        && partitions > 0
                        && wanted[0].replication_factor != -2
                        && factor > 0
                        && factor as usize <= brokers
                        && active > 0;
                    assert_eq!(outcome.is_ok(), possible, "{name}: {outcome:?}");
                    if let Ok(created) = outcome {
                        names.push(name.clone());
                        assert_eq!(created.num_partitions, partitions);
                        assert_eq!(created.replication_factor, factor);
                        assert_eq!(created.id.is_nil(), *validate_only);
                        if !validate_only {
                            let topic = (partitions as usize, factor as usize, BTreeMap::new());
                            model.topics.insert(name.clone(), topic);
                        }
                    }
                }
                assert!(!validate_only || decision.records.is_empty());
                self.commit(&decision.records);
            }
            Command::Delete(names) => {
                let selectors: Vec<_> = names.iter().cloned().map(TopicSelector::Name).collect();
                let decision = delete_topics(&self.image, &selectors);
                for (selector, outcome) in &decision.reply {
                    let TopicSelector::Name(name) = selector else { unreachable!("only names were given") };
                    let once = names.iter().filter(|other| *other == name).count() == 1;
                    assert_eq!(outcome.is_ok(), once && model.topics.contains_key(name));
                    if outcome.is_ok() {
                        model.topics.remove(name);
                    }
                }
                self.commit(&decision.records);
            }
            Command::Grow(topic, count) => {
                let grow = CreatePartitions { topic: topic.clone(), count: *count, assignments: None };
                let decision = create_partitions(&self.image, &[grow], false, &mut context);
                if decision.reply[0].1.is_ok() {
                    let (partitions, ..) = model.topics.get_mut(topic).unwrap();
                    assert!(*partitions < *count as usize);
                    *partitions = *count as usize;
                    self.commit(&decision.records);
                }
            }
            Command::Retention(topic, ms) => {
                let change = ConfigChange {
                    name: "retention.ms".to_owned(),
                    op: if ms.is_some() { ConfigOp::Set } else { ConfigOp::Delete },
                    value: ms.map(|ms| ms.to_string()),
                };
                let valid = model.topics.contains_key(topic) && ms.is_none_or(|ms| ms >= -1);
                let resource = AlterConfigs {
                    resource_type: ConfigResourceType::Topic,
                    resource_name: topic.clone(),
                    edit: ConfigEdit::Incremental(vec![change]),
                };
                let rules = ConfigRules { read_only: BTreeSet::new(), group: GroupConfig::default() };
                let decision = alter_configs(&self.image, &[resource], &rules, false);
                assert_eq!(decision.reply[0].is_ok(), valid);
                if decision.reply[0].is_ok() {
                    let (_, _, configs) = model.topics.get_mut(topic).unwrap();
                    match ms {
                        Some(ms) => configs.insert("retention.ms".to_owned(), ms.to_string()),
                        None => configs.remove("retention.ms"),
                    };
                    self.commit(&decision.records);
                }
            }
            Command::Session(group, ms) => {
                let change = ConfigChange {
                    name: "consumer.session.timeout.ms".to_owned(),
                    op: if ms.is_some() { ConfigOp::Set } else { ConfigOp::Delete },
                    value: ms.map(|ms| ms.to_string()),
                };
                let resource = AlterConfigs {
                    resource_type: ConfigResourceType::Group,
                    resource_name: group.clone(),
                    edit: ConfigEdit::Incremental(vec![change]),
                };
                let rules = ConfigRules { read_only: BTreeSet::new(), group: GroupConfig::default() };
                let decision = alter_configs(&self.image, &[resource], &rules, false);
                let valid = !group.is_empty() && ms.is_none_or(|ms| ms >= 45_000);
                assert_eq!(decision.reply[0].is_ok(), valid);
                if valid {
                    match ms {
                        Some(ms) => model.session_ms.insert(group.clone(), *ms),
                        None => model.session_ms.remove(group),
                    };
                }
                self.commit(&decision.records);
            }
            Command::ProducerIds(broker) => {
                let decision = allocate_producer_ids(&self.image, BrokerId(*broker));
                assert_eq!(decision.is_ok(), model.brokers.contains_key(broker));
                if let Ok(decision) = decision {
                    assert_eq!(decision.reply.first.0, model.producer_ids);
                    model.producer_ids += 1000;
                    self.commit(&decision.records);
                }
            }
        }
        self.seed = seed;
    }

    fn observed(&self) -> Model {
        let topics = self.image.topics().map(|topic| {
            let factor = topic.partitions[0].replicas.len();
            (topic.name.to_string(), (topic.partitions.len(), factor, topic.configs.clone()))
        });
        Model {
            topics: topics.collect(),
            brokers: self.image.brokers().map(|broker| (broker.id.0, broker.fenced)).collect(),
            producer_ids: self.image.next_producer_id(),
            session_ms: self
                .image
                .configured_resources()
                .map(|(_, group, configs)| {
                    (group.to_owned(), configs["consumer.session.timeout.ms"].parse().unwrap())
                })
                .collect(),
        }
    }
}

proptest! {
    #[test]
    fn the_image_always_equals_the_model_its_replayed_log_and_its_replayed_snapshot(
        commands in prop::collection::vec(command(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut system = System { image: MetadataImage::new(), log: Vec::new(), seed };
        let mut model = Model::default();
        let cluster = create_cluster(&system.image, &mut DecideContext { random: &mut || 1 << 40 });
        system.commit(&cluster.records);
        for command in &commands {
            system.run(command, &mut model);
            prop_assert_eq!(&system.observed(), &model);
            prop_assert_eq!(
                system.image.partition_count(),
                model.topics.values().map(|(partitions, ..)| partitions).sum::<usize>()
            );
        }
        let mut replayed = MetadataImage::new();
        for entry in &system.log {
            replayed.replay_all(&decode_entry(entry).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, &system.image);

        let mut restored = MetadataImage::new();
        for record in system.image.snapshot() {
            restored.replay_all(&decode_entry(&encode_entry(&[record])).unwrap()).unwrap();
        }
        prop_assert_eq!(&restored, &system.image);
    }

    #[test]
    fn random_bytes_never_decode_into_more_than_they_hold(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = vec![1, 0, 0, 0, 1];
        framed.extend_from_slice(&bytes);
        let _ = decode_entry(&framed);
        let _ = decode_entry(&bytes);
    }
}

#[test]
fn a_change_does_not_touch_copies_of_the_image() {
    let mut system = System { image: MetadataImage::new(), log: Vec::new(), seed: 3 };
    let mut model = Model::default();
    system.run(&Command::Register(0, None), &mut model);
    system.run(&Command::Create(vec![("a".to_owned(), 2, 1)], false), &mut model);
    let copy = system.image.clone();
    system.run(&Command::Grow("a".to_owned(), 5), &mut model);
    assert_eq!(copy.topic("a").unwrap().partitions.len(), 2);
    assert_eq!(system.image.topic("a").unwrap().partitions.len(), 5);
    assert_ne!(copy.topic("a").unwrap().id, Uuid::nil());
}
