//! Rules for topic names (Kafka's `Topic` class).

use crate::error::CoordError;

/// Longest topic name, in bytes: with the partition number it still makes a file name.
pub const MAX_NAME_LENGTH: usize = 249;
/// Where consumer groups keep their offsets.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// Where transactions keep their state.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";
/// Where share groups keep their state.
pub const SHARE_GROUP_STATE_TOPIC: &str = "__share_group_state";
/// Kafka's metadata log; never a topic that anybody may create.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Whether the broker itself owns the topic.
pub fn is_internal(name: &str) -> bool {
    matches!(name, GROUP_METADATA_TOPIC | TRANSACTION_STATE_TOPIC | SHARE_GROUP_STATE_TOPIC)
}

/// Checks a name by itself: not empty, not `.` or `..`, at most 249 of `[a-zA-Z0-9._-]`.
pub fn validate(name: &str) -> Result<(), CoordError> {
    let problem = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        _ if name.len() > MAX_NAME_LENGTH => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}")
        }
        _ if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            format!(
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
            )
        }
        _ => return Ok(()),
    };
    Err(CoordError::InvalidTopic(format!("Topic name is invalid: {problem}")))
}

/// The form in which two names collide: metric names cannot tell `.` from `_`. None for a name without either.
pub fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules_and_refusals_use_its_words() {
        for good in ["a", "A.b_c-9", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        let text = |name: &str| validate(name).unwrap_err().to_string();
        assert_eq!(text(""), "Topic name is invalid: the empty string is not allowed");
        assert_eq!(text("."), "Topic name is invalid: '.' is not allowed");
        assert_eq!(text(".."), "Topic name is invalid: '..' is not allowed");
        assert!(text(&"x".repeat(250)).ends_with("is longer than the max allowed length 249"));
        for bad in ["a b", "a/b", "é", "a\0", "a,b", "a:b"] {
            assert!(text(bad).contains("contains one or more characters other than"), "{bad}");
        }
    }

    #[test]
    fn dots_and_underscores_collide_and_other_names_do_not() {
        assert_eq!(collision_key("a.b"), collision_key("a_b"));
        assert_eq!(collision_key("ab"), None);
        assert_ne!(collision_key("a.b"), collision_key("a.c"));
    }
}
