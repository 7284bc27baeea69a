//! `brokerctl produce`: lines, or JSON objects, as records.
//!
//! Lines that are there are gathered into batches; when the input pauses, what has been gathered is written at once, so that typing
//! at a terminal works as well as a file of gigabytes.
//!
//! | file | owns |
//! |---|---|
//! | this | options, and reading the input piece by piece |
//! | `input` | what a piece of input means |
//! | `writer` | batches, sequences, retries |

mod input;
mod writer;

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::thread::sleep;

use protocol::client::parse_acks;
use protocol::compression::Compression;
use protocol::error::ErrorCode;
use serde_json::json;

use self::writer::Writer;
use super::encoding::Encoding;
use super::format::{one_byte, unescape};
use super::progress::Progress;
use super::topic::parse_entry;
use super::{CtlError, GlobalArgs};
use crate::client::{Client, ClientError, RETRY_PAUSE, Topic};

/// How much is read from a file or pipe at once.
const INPUT_BYTES: usize = 256 << 10;

/// How often a topic is looked for that the broker may be making: for a second.
const CREATION_TRIES: u32 = 10;

const EXAMPLES: &str = "\
Examples:
  echo hello | brokerctl produce greetings
  brokerctl produce orders -K : --idempotent < orders.txt          each line is key:value
  brokerctl produce users -K : --null NULL                         'bob:NULL' deletes bob in a compacted topic
  brokerctl consume a --json | brokerctl produce b --json-input    copy with keys, headers, times and partitions";

/// Options of `produce`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ProduceArgs {
    /// The topic
    topic: String,
    /// Read this file [default: standard input]
    #[arg(long, short = 'i', value_name = "FILE")]
    file: Option<PathBuf>,
    /// What ends a record in the input: one byte (\\0 for what 'find -print0' writes)
    #[arg(long, short = 'D', value_name = "BYTE", value_parser = one_byte, default_value = "\\n")]
    delimiter: u8,
    /// Lines are key, this separator (\\t for a tab), value
    #[arg(long, short = 'K', value_name = "SEPARATOR", value_parser = separator)]
    key_separator: Option<std::vec::Vec<u8>>,
    /// The key of every record
    #[arg(long, short, conflicts_with = "key_separator")]
    key: Option<String>,
    /// A header of every record (may be repeated)
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = parse_entry)]
    header: Vec<(String, String)>,
    /// Lines begin with headers (name=value,name=value), then this separator
    #[arg(long, value_name = "SEPARATOR", value_parser = separator)]
    header_separator: Option<std::vec::Vec<u8>>,
    /// Lines are JSON objects as 'consume --json' prints them: value, key, headers, partition, timestamp
    #[arg(long, conflicts_with_all = ["key_separator", "key", "header_separator", "null", "null_empty"])]
    json_input: bool,
    /// What keys are
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    key_type: Encoding,
    /// What values are
    #[arg(long, value_enum, default_value_t, value_name = "TYPE")]
    value_type: Encoding,
    /// Write to this partition [default: by key as Kafka does it, or in turn]
    #[arg(long, short)]
    partition: Option<i32>,
    /// A key or value that is this text becomes null; a null value deletes the key in a compacted topic
    #[arg(long, value_name = "TEXT", value_parser = unescape)]
    null: Option<std::vec::Vec<u8>>,
    /// An empty value becomes null
    #[arg(long)]
    null_empty: bool,
    /// Who must have a record before it counts as written: 0, 1 or all
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: i16,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, short = 'z', default_value_t = Compression::None)]
    compression: Compression,
    /// Use an idempotent producer: no record twice, whatever is sent again
    #[arg(long)]
    idempotent: bool,
}

fn separator(text: &str) -> Result<Vec<u8>, String> {
    let separator = unescape(text)?;
    if separator.is_empty() {
        Err("a separator has at least one character".to_owned())
    } else {
        Ok(separator)
    }
}

/// Runs `produce`.
pub fn run(
    args: &ProduceArgs,
    global: &GlobalArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    if args.idempotent && args.acks != -1 {
        return Err(CtlError::Usage("--idempotent needs --acks all".to_owned()));
    }
    let mut file;
    let mut size = None;
    let input: &mut dyn BufRead = match &args.file {
        None => &mut BufReader::with_capacity(INPUT_BYTES, input),
        Some(path) => {
            let failed = |source| CtlError::Io { what: format!("cannot open {}", path.display()), source };
            let opened = File::open(path).map_err(failed)?;
            size =
                opened.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len());
            file = BufReader::with_capacity(INPUT_BYTES, opened);
            &mut file
        }
    };
    let mut client = global.client();
    let topic = topic(&mut client, &args.topic)?;
    let mut writer = Writer::new(args, client, topic)?;
    // Whoever types sees what they type.
    let progress = Progress::new(args.file.is_some() || !std::io::stdin().is_terminal());
    read(args, &mut writer, input, size, progress)?;
    let (records, bytes) = writer.written();
    match global.json {
        true => writeln!(out, "{}", json!({ "topic": args.topic, "records": records, "bytes": bytes })),
        false => Ok(()),
    }
    .map_err(CtlError::stdout)
}

/// The topic, which the broker makes if that is allowed; it may say first that there is none.
fn topic(client: &mut Client, name: &str) -> Result<Topic, ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match client.topic(name, true) {
            Err(error) if tries < CREATION_TRIES && is_being_made(&error) => sleep(RETRY_PAUSE),
            outcome => return outcome,
        }
    }
}

fn is_being_made(error: &ClientError) -> bool {
    let is_missing = matches!(error, ClientError::NoSuchTopic { .. });
    is_missing || error.code() == Some(ErrorCode::LEADER_NOT_AVAILABLE)
}

fn read(
    args: &ProduceArgs,
    writer: &mut Writer<'_>,
    input: &mut dyn BufRead,
    size: Option<u64>,
    mut progress: Progress,
) -> Result<(), CtlError> {
    let failed = |source| CtlError::Io { what: "reading the input".to_owned(), source };
    let mut text = Vec::new();
    let (mut number, mut consumed) = (0u64, 0u64);
    loop {
        // How much is left of what the last read from the file or pipe brought.
        let buffered = input.fill_buf().map_err(failed)?.len();
        if buffered == 0 {
            return writer.flush();
        }
        text.clear();
        let read = input.read_until(args.delimiter, &mut text).map_err(failed)?;
        if text.last() == Some(&args.delimiter) {
            text.pop();
        }
        number += 1;
        let record = input::parse(args, &text);
        writer.add(
            record.map_err(|reason| CtlError::Data(format!("record {number} of the input: {reason}")))?,
        )?;
        consumed += read as u64;
        progress.add(1, read as u64);
        if let Some(size) = size {
            progress.set_share(consumed, size);
        }
        progress.draw();
        if read >= buffered {
            writer.flush()?;
        }
    }
}
