//! Records in the text form of lib/python/dataset.py.

use rdkafka::message::{Headers, Message};
use std::collections::HashMap;
use std::fmt::Write;

/// One record; without an offset (-1) as long as it is not written.
#[derive(Clone)]
pub struct Row {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Row {
    pub fn new(partition: i32, timestamp: i64, value: &[u8]) -> Row {
        Row { partition, offset: -1, timestamp, key: None, value: Some(value.to_vec()), headers: Vec::new() }
    }

    pub fn of(message: &impl Message) -> Row {
        let headers = message.headers().map_or(Vec::new(), |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Row {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        }
    }

    pub fn line(&self) -> String {
        let pairs: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{}:{}", hex(name.as_bytes()), text(value.as_deref())))
            .collect();
        let (key, value) = (text(self.key.as_deref()), text(self.value.as_deref()));
        format!(
            "{}\t{}\t{}\t{key}\t{value}\t{}",
            self.partition,
            self.offset,
            self.timestamp,
            pairs.join(",")
        )
    }
}

pub fn load(path: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.lines().map(parse).collect()
}

fn parse(line: &str) -> Row {
    let column: Vec<&str> = line.split('\t').collect();
    let header = |pair: &str| {
        let (name, value) = pair.split_once(':').expect("name:value");
        (String::from_utf8(unhex(name)).expect("UTF-8 name"), untext(value))
    };
    Row {
        partition: column[0].parse().expect("a partition"),
        offset: -1,
        timestamp: column[1].parse().expect("a timestamp"),
        key: untext(column[2]),
        value: untext(column[3]),
        headers: column[4].split(',').filter(|pair| !pair.is_empty()).map(header).collect(),
    }
}

/// The same rows with the offsets that an empty topic gives them, ordered by partition and offset.
pub fn expected(rows: &[Row]) -> Vec<Row> {
    let mut ends: HashMap<i32, i64> = HashMap::new();
    let mut out = rows.to_vec();
    for row in &mut out {
        let end = ends.entry(row.partition).or_default();
        row.offset = *end;
        *end += 1;
    }
    order(&mut out);
    out
}

pub fn order(rows: &mut [Row]) {
    rows.sort_by_key(|row| (row.partition, row.offset));
}

fn text(data: Option<&[u8]>) -> String {
    data.map_or("~".to_owned(), hex)
}

fn untext(word: &str) -> Option<Vec<u8>> {
    (word != "~").then(|| unhex(word))
}

fn hex(data: &[u8]) -> String {
    data.iter().fold(String::with_capacity(2 * data.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex(word: &str) -> Vec<u8> {
    (0..word.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&word[i..i + 2], 16).expect("hexadecimal"))
        .collect()
}
