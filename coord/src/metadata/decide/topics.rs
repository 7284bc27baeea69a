//! Creating and deleting topics (Kafka's `ReplicationControlManager` and the checks of `ControllerApis`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use super::partitions::{check_manual_assignment, new_partition};
use super::{DecideContext, Decision};
use crate::config;
use crate::error::CoordError;
use crate::metadata::image::MetadataImage;
use crate::metadata::partition::PartitionImage;
use crate::metadata::record::MetadataRecord;
use crate::metadata::{names, placement};
use crate::types::BrokerId;

/// Partitions that one request may create (Kafka's `MAX_PARTITIONS_PER_BATCH`).
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// One topic of a CreateTopics request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewTopic {
    /// The name as the client gave it.
    pub name: String,
    /// Partitions, or -1 for the default or for a manual assignment.
    pub num_partitions: i32,
    /// Replicas of each partition, or -1 for the default or for a manual assignment.
    pub replication_factor: i16,
    /// Partition index and brokers; empty lets the controller choose.
    pub assignments: Vec<(i32, Vec<BrokerId>)>,
    /// Configs by name; no value is refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// What holds for all topics of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateTopicsOptions {
    /// Checks everything, creates nothing.
    pub validate_only: bool,
    /// `num.partitions`
    pub default_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
}

/// A topic that was created, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The new topic's id; nil if only validated.
    pub id: Uuid,
    /// The number of its partitions.
    pub num_partitions: i32,
    /// Replicas of its first partition.
    pub replication_factor: i16,
    /// Configs that it was given, by name.
    pub configs: BTreeMap<String, String>,
}

/// An outcome for each topic name of a request.
pub type CreateTopicsReply = Vec<(String, Result<CreatedTopic, CoordError>)>;

/// An outcome for each topic that a request selects.
pub type DeleteTopicsReply = Vec<(TopicSelector, Result<DeletedTopic, CoordError>)>;

/// Creates topics; replies with an outcome for each *distinct* name in the order in which the names first appear. A name that appears
/// twice fails once.
///
/// # Errors
/// The whole request is refused (POLICY_VIOLATION) if it asks for more than [`MAX_PARTITIONS_PER_REQUEST`] partitions.
pub fn create_topics(
    image: &MetadataImage,
    topics: &[NewTopic],
    options: CreateTopicsOptions,
    context: &mut DecideContext<'_>,
) -> Result<Decision<CreateTopicsReply>, CoordError> {
    check_total_partitions(topics, options)?;
    let mut appearances: HashMap<&str, usize> = HashMap::new();
    for topic in topics {
        *appearances.entry(&topic.name).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(appearances.len());
    let mut new_collisions: HashMap<String, &str> = HashMap::new();
    for topic in topics {
        let outcome = match appearances.remove(topic.name.as_str()) {
            None => continue,
            Some(1) => plan_topic(image, topic, options, &new_collisions, context),
            Some(_) => Err(CoordError::InvalidRequest("Duplicate topic name.".to_owned())),
        };
        let outcome = outcome.map(|plan| {
            if let Some(key) = names::collision_key(&topic.name) {
                new_collisions.insert(key, &topic.name);
            }
            let mut created = CreatedTopic {
                id: Uuid::nil(),
                num_partitions: plan.partitions.len() as i32,
                replication_factor: plan.partitions[0].replicas.len() as i16,
                configs: plan.configs,
            };
            if !options.validate_only {
                created.id = new_topic_id(image, context);
                records.push(MetadataRecord::Topic {
                    topic_id: created.id,
                    name: Arc::from(topic.name.as_str()),
                    configs: created.configs.clone().into_iter().collect(),
                    partitions: plan.partitions,
                });
            }
            created
        });
        reply.push((topic.name.clone(), outcome));
    }
    Ok(Decision { records, reply })
}

struct TopicPlan {
    configs: BTreeMap<String, String>,
    partitions: Vec<PartitionImage>,
}

fn check_total_partitions(topics: &[NewTopic], options: CreateTopicsOptions) -> Result<(), CoordError> {
    let mut total = 0usize;
    for topic in topics {
        let count = match topic.num_partitions {
            _ if !topic.assignments.is_empty() => topic.assignments.len(),
            -1 => usize::try_from(options.default_partitions).unwrap_or(0),
            count => usize::try_from(count).unwrap_or(0),
        };
        total = total.saturating_add(count);
    }
    if total > MAX_PARTITIONS_PER_REQUEST {
        let text = "Excessively large number of partitions per request.";
        return Err(CoordError::PolicyViolation(text.to_owned()));
    }
    Ok(())
}

fn plan_topic(
    image: &MetadataImage,
    topic: &NewTopic,
    options: CreateTopicsOptions,
    new_collisions: &HashMap<String, &str>,
    context: &mut DecideContext<'_>,
) -> Result<TopicPlan, CoordError> {
    check_name(image, &topic.name, new_collisions)?;
    let configs = check_configs(&topic.configs)?;
    let partitions = if topic.assignments.is_empty() {
        place_partitions(image, topic, options, context)?
    } else {
        assigned_partitions(image, topic)?
    };
    Ok(TopicPlan { configs, partitions })
}

fn check_name(
    image: &MetadataImage,
    name: &str,
    new_collisions: &HashMap<String, &str>,
) -> Result<(), CoordError> {
    if image.topic(name).is_some() {
        return Err(CoordError::TopicAlreadyExists(name.to_owned()));
    }
    names::validate(name)?;
    if name == names::CLUSTER_METADATA_TOPIC {
        let text = format!("Creation of internal topic {name} is prohibited.");
        return Err(CoordError::InvalidRequest(text));
    }
    let in_request = names::collision_key(name).and_then(|key| new_collisions.get(&key).copied());
    match image.colliding_topic(name).or(in_request) {
        Some(existing) => {
            let text = format!("Topic '{name}' collides with existing topic: {existing}");
            Err(CoordError::InvalidTopic(text))
        }
        None => Ok(()),
    }
}

fn check_configs(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, CoordError> {
    let nulls: Vec<&str> =
        configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(CoordError::InvalidConfig(text));
    }
    let configs: BTreeMap<String, String> =
        configs.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    config::validate_topic_configs(&configs)?;
    Ok(configs)
}

fn assigned_partitions(image: &MetadataImage, topic: &NewTopic) -> Result<Vec<PartitionImage>, CoordError> {
    let invalid = |text: &str| Err(CoordError::InvalidRequest(text.to_owned()));
    if topic.replication_factor != -1 {
        return invalid(
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        );
    }
    if topic.num_partitions != -1 {
        return invalid("A manual partition assignment was specified, but numPartitions was not set to -1.");
    }
    let mut by_index: BTreeMap<i32, PartitionImage> = BTreeMap::new();
    let mut factor = None;
    for (index, brokers) in &topic.assignments {
        if by_index.contains_key(index) {
            let text = format!("Found multiple manual partition assignments for partition {index}");
            return Err(CoordError::InvalidReplicaAssignment(text));
        }
        check_manual_assignment(image, brokers, factor)?;
        factor = Some(brokers.len());
        by_index.insert(*index, new_partition(image, brokers.as_slice().into(), *index)?);
    }
    if by_index.keys().copied().ne(0..by_index.len() as i32) {
        let text = "partitions should be a consecutive 0-based integer sequence";
        return Err(CoordError::InvalidReplicaAssignment(text.to_owned()));
    }
    Ok(by_index.into_values().collect())
}

fn place_partitions(
    image: &MetadataImage,
    topic: &NewTopic,
    options: CreateTopicsOptions,
    context: &mut DecideContext<'_>,
) -> Result<Vec<PartitionImage>, CoordError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let text = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(CoordError::InvalidReplicationFactor(text.to_owned()));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        let text = "Number of partitions was set to an invalid non-positive value.";
        return Err(CoordError::InvalidPartitions(text.to_owned()));
    }
    let or_default = |value: i32, default: i32| if value == -1 { default } else { value };
    let count = or_default(topic.num_partitions, options.default_partitions);
    let factor = match topic.replication_factor {
        -1 => options.default_replication_factor,
        factor => factor,
    };
    let count = usize::try_from(count).map_err(|_| {
        CoordError::InvalidPartitions(format!("num.partitions is {count}, which no topic can have."))
    })?;
    placement::place(image, count, factor, context.random)?
        .into_iter()
        .enumerate()
        .map(|(index, replicas)| new_partition(image, replicas, index as i32))
        .collect()
}

fn new_topic_id(image: &MetadataImage, context: &mut DecideContext<'_>) -> Uuid {
    loop {
        let id = context.new_id();
        if image.topic_by_id(id).is_none() {
            return id;
        }
    }
}

/// How a request names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicSelector {
    /// By its name.
    Name(String),
    /// By its id.
    Id(Uuid),
}

/// A topic that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
}

/// Deletes topics; replies with an outcome for each *distinct* selector in the order of first appearance. A selector that appears twice
/// fails once; a topic that is named both by name and by id fails under both.
pub fn delete_topics(image: &MetadataImage, selectors: &[TopicSelector]) -> Decision<DeleteTopicsReply> {
    let mut appearances: HashMap<&TopicSelector, usize> = HashMap::new();
    let mut chosen: HashMap<Uuid, usize> = HashMap::new();
    for selector in selectors {
        let count = appearances.entry(selector).or_default();
        *count += 1;
        if let (1, Some(topic)) = (*count, find(image, selector)) {
            *chosen.entry(topic.id).or_default() += 1;
        }
    }
    let mut removed: HashSet<Uuid> = HashSet::new();
    let mut records = Vec::new();
    let mut reply = Vec::with_capacity(appearances.len());
    for selector in selectors {
        let Some(count) = appearances.remove(selector) else { continue };
        let by_name = matches!(selector, TopicSelector::Name(_));
        let outcome = match find(image, selector) {
            _ if count > 1 => {
                let text = if by_name { "Duplicate topic name." } else { "Duplicate topic id." };
                Err(CoordError::InvalidRequest(text.to_owned()))
            }
            None if by_name => Err(CoordError::UnknownTopicOrPartition),
            None => Err(CoordError::UnknownTopicId),
            Some(topic) if chosen[&topic.id] > 1 => {
                let text = "The provided topic name maps to an ID that was already supplied.";
                Err(CoordError::InvalidRequest(text.to_owned()))
            }
            Some(topic) => {
                if removed.insert(topic.id) {
                    records.push(MetadataRecord::RemoveTopic { topic_id: topic.id });
                }
                Ok(DeletedTopic { id: topic.id, name: Arc::clone(&topic.name) })
            }
        };
        reply.push((selector.clone(), outcome));
    }
    Decision { records, reply }
}

fn find<'a>(
    image: &'a MetadataImage,
    selector: &TopicSelector,
) -> Option<&'a Arc<crate::metadata::image::TopicImage>> {
    match selector {
        TopicSelector::Name(name) => image.topic(name),
        TopicSelector::Id(id) => image.topic_by_id(*id),
    }
}
