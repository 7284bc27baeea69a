//! Regular expressions of topic names (SubscribedTopicRegex), as members subscribe with them.
//!
//! Kafka resolves them with RE2J. Its syntax is that of the crate `regex` but for quoting by `\Q…\E`, which is translated, and for things
//! that a pattern of topic names hardly has (`&&`, `--` and `~~` inside brackets, `\C`). Both take time in proportion to the input.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

/// The longest pattern that is taken, in bytes.
const MAX_PATTERN_BYTES: usize = 8 * 1024;
/// The largest compiled pattern, in bytes.
const MAX_COMPILED_BYTES: usize = 1024 * 1024;
/// How deep brackets may be nested.
const MAX_NESTING: u32 = 64;

/// A compiled pattern, which matches whole names only.
#[derive(Debug, Clone)]
pub(super) struct TopicPattern(Regex);

impl TopicPattern {
    /// Compiles a pattern; the error says what is wrong with it.
    pub fn compile(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("it is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let pattern = unquote(pattern);
        // On its own first, so that nothing in it can reach out of the brackets around it.
        let own = build(&pattern)?;
        let whole = build(&format!(r"\A(?:{})\z", own.as_str()))?;
        Ok(TopicPattern(whole))
    }

    /// The names that the pattern stands for.
    pub fn resolve<'a>(&self, names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        names.filter(|name| self.0.is_match(name)).map(str::to_owned).collect()
    }
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .build()
        // The library draws the pattern and points at the place; the last line is the reason.
        .map_err(|error| {
            error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
}

/// The pattern with `\Q…\E` replaced by escapes.
fn unquote(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let escape = &rest[at..];
        if let Some(quoted) = escape.strip_prefix(r"\Q") {
            let (quoted, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(quoted));
            rest = after;
        } else {
            let end = escape.chars().take(2).map(char::len_utf8).sum();
            plain.push_str(&escape[..end]);
            rest = &escape[end..];
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, names: &[&str]) -> Vec<String> {
        TopicPattern::compile(pattern).expect(pattern).resolve(names.iter().copied()).into_iter().collect()
    }

    #[test]
    fn a_pattern_has_to_match_the_whole_name() {
        assert_eq!(matches("foo", &["foo", "foobar", "a-foo"]), ["foo"]);
        assert_eq!(matches("foo|foobar", &["foo", "foobar"]), ["foo", "foobar"]);
        assert_eq!(matches("foo.*", &["foo", "foobar", "barfoo"]), ["foo", "foobar"]);
        assert_eq!(matches("^foo$", &["foo", "foo2"]), ["foo"]);
    }

    #[test]
    fn quoted_parts_stand_for_themselves() {
        assert_eq!(matches(r"\Qa.b\E.*", &["a.b", "a.bc", "axb"]), ["a.b", "a.bc"]);
        assert_eq!(matches(r"a\.b\Q(", &["a.b("]), ["a.b("]);
        assert_eq!(matches(r"\\Q", &[r"\Q"]), [r"\Q"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_reason() {
        for pattern in ["(", "a)(b", "[", "*", r"\", "(?=look)", r"(a)\1"] {
            assert!(TopicPattern::compile(pattern).is_err_and(|reason| !reason.is_empty()), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_would_take_much_memory_is_refused() {
        assert!(TopicPattern::compile("((a{100}){100}){100}").is_err());
        assert!(TopicPattern::compile(&"(".repeat(10_000)).is_err());
        assert!(TopicPattern::compile(&format!("{}a{}", "(".repeat(1000), ")".repeat(1000))).is_err());
    }
}
