//! One record as a line of output.

use std::io::Write;

use protocol::records::Record;
use serde_json::{Value, json};

use super::ConsumeArgs;
use crate::client::TopicPartition;
use crate::ctl::CtlError;
use crate::ctl::format::Shown;

/// Writes records as the command line asks for.
pub struct Printer<'a> {
    args: &'a ConsumeArgs,
    json: bool,
}

impl<'a> Printer<'a> {
    /// A printer for these options.
    pub fn new(args: &'a ConsumeArgs, json: bool) -> Printer<'a> {
        Printer { args, json }
    }

    /// Writes one record.
    pub fn print(
        &self,
        partition: &TopicPartition,
        record: &Record<'_>,
        out: &mut dyn Write,
    ) -> Result<(), CtlError> {
        let unreadable = |what: &str, reason: String| {
            CtlError::Data(format!(
                "{what} of {partition} at offset {}: {reason}. See it with --{what}-type hex",
                record.offset
            ))
        };
        let (keys, values) = (self.args.key_type, self.args.value_type);
        if self.json {
            let headers: Vec<Value> = record
                .headers
                .clone()
                .map(|header| {
                    let value = crate::ctl::encoding::Encoding::String.to_json(header.value);
                    json!([String::from_utf8_lossy(header.key), value.unwrap_or_default()])
                })
                .collect();
            let value = json!({
                "topic": partition.topic, "partition": partition.partition, "offset": record.offset,
                "timestamp": record.timestamp,
                "key": keys.to_json(record.key).map_err(|reason| unreadable("key", reason))?,
                "value": values.to_json(record.value).map_err(|reason| unreadable("value", reason))?,
                "headers": headers,
            });
            return writeln!(out, "{value}").map_err(CtlError::stdout);
        }
        let shown = Shown {
            topic: &partition.topic,
            partition: partition.partition,
            record,
            key: record
                .key
                .map(|key| keys.show(key))
                .transpose()
                .map_err(|reason| unreadable("key", reason))?,
            value: record
                .value
                .map(|value| values.show(value))
                .transpose()
                .map_err(|reason| unreadable("value", reason))?,
            null: &self.args.null,
        };
        self.args.format.write(&shown, out).map_err(CtlError::stdout)
    }
}
