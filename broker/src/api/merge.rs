//! Answers in parts: rows of one topic that come from several places are told under one name.

use std::borrow::Cow;

use ahash::AHashMap;

/// Adds `rows` to `into`: a row whose name is there already is handed to `join`, the others are appended.
///
/// A request may name a topic as often as it likes, so looking through all of `into` for each row would be a stranger's way to keep a shard busy.
pub fn merge_by_name<T>(
    into: &mut Vec<T>,
    rows: Vec<T>,
    name: impl Fn(&T) -> &Cow<'static, str>,
    join: impl Fn(&mut T, T),
) {
    let mut places: AHashMap<Cow<'static, str>, usize> = AHashMap::with_capacity(into.len() + rows.len());
    for (place, row) in into.iter().enumerate() {
        places.entry(name(row).clone()).or_insert(place);
    }
    for row in rows {
        let next = into.len();
        let place = *places.entry(name(&row).clone()).or_insert(next);
        match into.get_mut(place) {
            Some(known) => join(known, row),
            None => into.push(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (Cow<'static, str>, Vec<i32>);

    fn merged(mut into: Vec<Row>, rows: Vec<Row>) -> Vec<Row> {
        merge_by_name(&mut into, rows, |row| &row.0, |known, row| known.1.extend(row.1));
        into
    }

    fn row(name: &'static str, values: &[i32]) -> Row {
        (name.into(), values.to_vec())
    }

    #[test]
    fn rows_of_one_name_become_one_and_the_order_of_first_names_stays() {
        let rows = vec![row("c", &[4]), row("a", &[5]), row("c", &[6])];
        let expected = vec![row("b", &[1]), row("a", &[2, 5]), row("a", &[3]), row("c", &[4, 6])];
        assert_eq!(merged(vec![row("b", &[1]), row("a", &[2]), row("a", &[3])], rows), expected);
    }

    #[test]
    fn what_a_request_repeats_a_hundred_thousand_times_is_merged_in_one_look_each() {
        let names = || (0..100_000).map(|n| (Cow::from(format!("topic-{n}")), vec![n]));
        let both = merged(names().collect(), names().collect());
        assert_eq!(both.len(), 100_000);
        assert!(both.iter().all(|(_, values)| values.len() == 2));
    }
}
