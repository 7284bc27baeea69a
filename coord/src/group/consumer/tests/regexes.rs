//! Members that subscribe with regular expressions.

use super::*;

fn joining_regex(member_id: &str, regex: &str) -> ConsumerGroupHeartbeatRequest<'static> {
    ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(regex.to_owned().into()),
        ..joining(member_id, &[])
    }
}

fn shell() -> Shell {
    Shell::new(GroupConfig::default(), &[("foo-1", 1), ("foo-2", 1), ("bar", 1)])
}

fn regexes_of(shell: &Shell) -> Vec<String> {
    shell.group().resolved.keys().map(|regex| regex.to_string()).collect()
}

#[test]
fn a_member_gets_the_partitions_of_the_topics_that_match_with_its_first_heartbeat() {
    let mut shell = shell();
    let response = shell.send(1, &joining_regex("a", "foo-.*"));
    assert_eq!(
        assigned(&response),
        Some(shell.partitions("foo-1", [0]).union(&shell.partitions("foo-2", [0])))
    );
    assert!(shell.group().is_subscribed_to("foo-1") && !shell.group().is_subscribed_to("bar"));
}

#[test]
fn names_and_a_regular_expression_add_up() {
    let mut shell = shell();
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("foo-.*".into()),
        ..joining("a", &["bar", "foo-1"])
    };
    assert_eq!(assigned(&shell.send(1, &request)).map(|assigned| assigned.len()), Some(3));
}

#[test]
fn what_is_no_regular_expression_is_refused_and_changes_nothing() {
    let mut shell = shell();
    let response = shell.send(1, &joining_regex("a", "foo-("));
    assert_eq!(ErrorCode(response.error_code), ErrorCode::INVALID_REGULAR_EXPRESSION);
    let message = response.error_message.unwrap_or_default();
    assert!(
        message.starts_with("SubscribedTopicRegex `foo-(` is not a valid regular expression: "),
        "{message}"
    );
    assert!(shell.log.is_empty() && shell.coordinator.group(GROUP).is_none());
}

#[test]
fn a_new_topic_that_matches_is_noticed_ten_seconds_after_the_last_look_at_the_earliest() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    shell.set_topic("foo-3", 1);
    shell.advance(10_000);
    assert_eq!(assigned(&shell.beat("a", 1, None)), None);
    shell.advance(1);
    assert_eq!(assigned(&shell.beat("a", 1, None)).map(|assigned| assigned.len()), Some(3));
}

#[test]
fn one_that_comes_later_does_not_keep_another_from_noticing_new_topics() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    shell.set_topic("foo-3", 1);
    shell.advance(6_000);
    shell.send(1, &joining_regex("b", "b.*"));
    shell.advance(6_000);
    shell.beat("b", 2, None);
    assert_eq!(shell.group().target("a").len(), 3);
}

#[test]
fn without_new_topics_regular_expressions_rest_until_the_refresh_interval_is_over() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    let before = shell.log.len();
    for _ in 0..40 {
        shell.advance(15_000);
        shell.beat("a", 1, None);
    }
    assert_eq!(shell.log.len(), before);
    shell.advance(1_000);
    shell.beat("a", 1, None);
    assert_eq!(shell.log.len(), before + 1, "the time of the look is recorded");
    assert_eq!(shell.group().group_epoch(), 1);
}

#[test]
fn a_regular_expression_that_nobody_has_any_more_is_forgotten() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    shell.send(1, &joining_regex("b", "foo-.*"));
    shell.send(1, &joining_regex("c", "b.*"));
    assert_eq!(regexes_of(&shell), ["b.*", "foo-.*"]);
    shell.beat("c", -1, None);
    assert_eq!(regexes_of(&shell), ["foo-.*"]);
    shell.beat("a", -1, None);
    assert_eq!(regexes_of(&shell), ["foo-.*"]);
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("".into()),
        subscribed_topic_names: Some(vec!["bar".into()]),
        ..heartbeat("b", shell.group().members()["b"].current.member_epoch)
    };
    assert_eq!(shell.send(1, &request).error_code, 0);
    assert!(regexes_of(&shell).is_empty());
    assert_eq!(shell.group().target("b"), shell.partitions("bar", [0]));
}

#[test]
fn a_member_that_changes_its_regular_expression_gets_the_new_topics_and_gives_up_the_old() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    let request = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("foo-2|bar".into()),
        ..heartbeat("a", 1)
    };
    let response = shell.send(1, &request);
    let kept = shell.partitions("foo-2", [0]);
    assert_eq!((response.member_epoch, assigned(&response)), (1, Some(kept.clone())));
    let response = shell.beat("a", 1, Some(&kept));
    assert_eq!(assigned(&response), Some(kept.union(&shell.partitions("bar", [0]))));
}

#[test]
fn what_a_regular_expression_stood_for_survives_a_crash() {
    let mut shell = shell();
    shell.send(1, &joining_regex("a", "foo-.*"));
    let before = shell.group().clone();
    shell.crash();
    assert_eq!(*shell.group(), before);
    assert_eq!(assigned(&shell.beat("a", 1, None)), None);
}
