//! `docs/protocol.md` lists exactly the requests that are served.

use broker::api::table::SERVED;

/// (name, key, versions) of every row of the table.
fn rows(text: &str) -> Vec<(String, i16, String)> {
    let cells = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        Some((cells.next()?, cells.next()?, cells.next()?))
    });
    let rows = cells.filter_map(|(name, key, versions)| {
        Some((name.to_owned(), key.parse::<i16>().ok()?, versions.to_owned()))
    });
    rows.collect()
}

#[test]
fn the_documentation_of_the_protocol_lists_what_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md");
    let text = std::fs::read_to_string(path).expect("docs/protocol.md exists");
    let served: Vec<_> = SERVED
        .iter()
        .map(|served| {
            let versions = match (served.min_version, served.max_version) {
                (min, max) if min == max => min.to_string(),
                (min, max) => format!("{min}-{max}"),
            };
            (served.key.name().to_owned(), served.key as i16, versions)
        })
        .collect();
    assert_eq!(rows(&text), served);
}
