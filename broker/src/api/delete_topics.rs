//! DeleteTopics (key 20): by name, from version 6 on also by id.
//!
//! Source: `ControllerApis.deleteTopics`.

use std::borrow::Cow;

use coord::CoordError;
use coord::metadata::decide::TopicSelector;
use protocol::ErrorCode;
use protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;

use super::{Answer, Call, Refusal};
use crate::controller;

/// Deletes the topics.
pub async fn handle(call: Call) -> Answer {
    let request: DeleteTopicsRequest<'_> = call.decode()?;
    let selectors = selectors(&request)?;
    let responses = if call.shard.config().delete_topic_enable {
        match controller::delete_topics(&call.shard, selectors.clone()).await {
            Ok(reply) => reply
                .into_iter()
                .map(|(selector, outcome)| match outcome {
                    Ok(deleted) => DeletableTopicResult {
                        name: Some(Cow::Owned(deleted.name.to_string())),
                        topic_id: deleted.id,
                        ..Default::default()
                    },
                    Err(error) => failed(&selector, error.code(), error.to_string()),
                })
                .collect(),
            Err(error) => selectors.iter().map(|s| failed(s, error.code(), error.to_string())).collect(),
        }
    } else {
        let error = CoordError::TopicDeletionDisabled;
        // Clients before version 3 do not know the right code.
        let code = if call.version < 3 { ErrorCode::INVALID_REQUEST } else { error.code() };
        selectors.iter().map(|selector| failed(selector, code, error.to_string())).collect()
    };
    call.respond(&DeleteTopicsResponse { responses, ..Default::default() })
}

fn selectors(request: &DeleteTopicsRequest<'_>) -> Result<Vec<TopicSelector>, Refusal> {
    let mut selectors: Vec<_> =
        request.topic_names.iter().map(|name| TopicSelector::Name(name.to_string())).collect();
    for topic in &request.topics {
        selectors.push(match (&topic.name, topic.topic_id) {
            (Some(name), id) if id.is_nil() => TopicSelector::Name(name.to_string()),
            (None, id) if !id.is_nil() => TopicSelector::Id(id),
            (None, _) => return Err(Refusal::new("DeleteTopics: neither topic name nor id were specified")),
            (Some(_), _) => {
                return Err(Refusal::new("DeleteTopics: a topic was specified by both name and id"));
            }
        });
    }
    Ok(selectors)
}

fn failed(selector: &TopicSelector, error: ErrorCode, message: String) -> DeletableTopicResult<'static> {
    let (name, topic_id) = match selector {
        TopicSelector::Name(name) => (Some(Cow::Owned(name.clone())), Uuid::nil()),
        TopicSelector::Id(id) => (None, *id),
    };
    DeletableTopicResult {
        name,
        topic_id,
        error_code: error.code(),
        error_message: Some(Cow::Owned(message)),
        ..Default::default()
    }
}
