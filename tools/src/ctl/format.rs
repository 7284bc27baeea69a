//! The verbs of `consume --format`: kcat's, and some more.

use std::borrow::Cow;
use std::io::{self, Write};

use protocol::records::Record;

use super::time::utc_text;

/// What the verbs mean, for `--help`.
pub const VERBS: &str = "\
Format verbs:
  %t topic      %p partition   %o offset    %T timestamp (ms)    %D timestamp (date and time in UTC)
  %k key        %K its length in bytes (-1: null)
  %s value      %S its length in bytes (-1: null)    %R the same as 4 bytes, big-endian
  %h headers as name=value,…   %H{name} the value of one header  %% percent sign
  \\n \\r \\t \\0 \\\\ \\xHH as in C
%k and %s are written as --key-type and --value-type say; null as --null says.";

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Date,
    Key,
    KeyLength,
    Value,
    ValueLength,
    BinaryValueLength,
    Headers,
    Header(String),
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

/// A record with its key and value as they are to be shown.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition's number.
    pub partition: i32,
    /// The record as it is.
    pub record: &'a Record<'a>,
    /// The key as text; `None`: null.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value as text; `None`: null.
    pub value: Option<Cow<'a, [u8]>>,
    /// What stands for null.
    pub null: &'a [u8],
}

impl Format {
    /// Parses a format; the error names the verb or escape that does not exist.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut plain: Vec<u8> = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let piece = match char {
                '%' => match chars.next() {
                    Some('%') => {
                        plain.push(b'%');
                        continue;
                    }
                    Some('H') => Piece::Header(header_name(&mut chars)?),
                    Some(verb) => verb_piece(verb).ok_or_else(|| format!("there is no verb %{verb}"))?,
                    None => return Err("the format ends in the middle of a verb".to_owned()),
                },
                '\\' => {
                    plain.push(escape(&mut chars)?);
                    continue;
                }
                _ => {
                    plain.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Format(pieces))
    }

    /// Writes one record.
    pub fn write(&self, shown: &Shown<'_>, out: &mut dyn Write) -> io::Result<()> {
        let record = shown.record;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(shown.topic.as_bytes())?,
                Piece::Partition => write!(out, "{}", shown.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Date => out.write_all(utc_text(record.timestamp).as_bytes())?,
                Piece::Key => out.write_all(shown.key.as_deref().unwrap_or(shown.null))?,
                Piece::KeyLength => write!(out, "{}", length(record.key))?,
                Piece::Value => out.write_all(shown.value.as_deref().unwrap_or(shown.null))?,
                Piece::ValueLength => write!(out, "{}", length(record.value))?,
                Piece::BinaryValueLength => out.write_all(&(length(record.value) as i32).to_be_bytes())?,
                Piece::Headers => {
                    for (number, header) in record.headers.clone().enumerate() {
                        if number > 0 {
                            out.write_all(b",")?;
                        }
                        out.write_all(header.key)?;
                        out.write_all(b"=")?;
                        out.write_all(header.value.unwrap_or(b"NULL"))?;
                    }
                }
                Piece::Header(name) => {
                    let wanted = record.headers.clone().filter(|header| header.key == name.as_bytes());
                    // As Kafka's Headers.lastHeader: a later header of the same name takes the earlier one's place.
                    if let Some(header) = wanted.last() {
                        out.write_all(header.value.unwrap_or(shown.null))?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn verb_piece(verb: char) -> Option<Piece> {
    Some(match verb {
        't' => Piece::Topic,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'T' => Piece::Timestamp,
        'D' => Piece::Date,
        'k' => Piece::Key,
        'K' => Piece::KeyLength,
        's' => Piece::Value,
        'S' => Piece::ValueLength,
        'R' => Piece::BinaryValueLength,
        'h' => Piece::Headers,
        _ => return None,
    })
}

/// The name in `%H{name}`, whose first two characters have been read.
fn header_name(chars: &mut std::str::Chars<'_>) -> Result<String, String> {
    let rest = chars.as_str();
    let name = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
    let (name, rest) = name.ok_or("%H needs the header's name: %H{name}")?;
    *chars = rest.chars();
    Ok(name.to_owned())
}

/// The byte of the escape whose backslash has been read.
fn escape(chars: &mut std::str::Chars<'_>) -> Result<u8, String> {
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            let valid = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let byte = u8::from_str_radix(&digits, 16).ok().filter(|_| valid);
            byte.ok_or_else(|| format!("\\x{digits} is no byte: two hexadecimal digits are needed"))
        }
        Some(other) => Err(format!("there is no escape \\{other}")),
        None => Err("the text ends in the middle of an escape".to_owned()),
    }
}

/// Reads an option that is one byte, such as a delimiter.
pub fn one_byte(text: &str) -> Result<u8, String> {
    match unescape(text)?[..] {
        [byte] => Ok(byte),
        _ => Err(format!("'{text}' is not one byte")),
    }
}

/// Reads escapes in an option such as a key separator.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => bytes.push(escape(&mut chars)?),
            _ => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Ok(bytes)
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::records::{BatchBuilder, BatchOptions, BatchView, RecordHeader, RecordIter};

    fn show(format: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        let mut builder = BatchBuilder::new(BatchOptions { base_offset: 41, ..BatchOptions::default() });
        let headers =
            [RecordHeader { key: b"a", value: Some(b"1") }, RecordHeader { key: b"b", value: None }];
        builder.append(1234, key, value, &headers);
        let bytes = builder.build().expect("builds");
        let batch = BatchView::parse(&bytes).expect("sound");
        let record = RecordIter::new(&batch, batch.payload()).next().expect("one").expect("sound");
        let mut out = Vec::new();
        let format = Format::parse(format).expect("valid");
        let shown = Shown {
            topic: "orders",
            partition: 3,
            record: &record,
            key: record.key.map(Cow::from),
            value: record.value.map(Cow::from),
            null: b"~",
        };
        format.write(&shown, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_verb_shows_its_part_of_the_record() {
        let shown = show("%t/%p@%o %T %k(%K)=%s(%S) [%h] 100%%\\n", Some(b"key"), Some(b"value"));
        assert_eq!(shown, "orders/3@41 1234 key(3)=value(5) [a=1,b=NULL] 100%\n");
    }

    #[test]
    fn a_single_header_a_date_and_a_binary_length_can_be_asked_for() {
        assert_eq!(show("%H{a}|%H{b}|%H{c}|%D", None, None), "1|~||1970-01-01T00:00:01.234Z");
        assert_eq!(show("%R", None, Some(b"AB")), "\0\0\0\u{2}");
    }

    #[test]
    fn null_and_empty_differ_in_their_length() {
        assert_eq!(show("%k:%K %s:%S", None, None), "~:-1 ~:-1");
        assert_eq!(show("%k:%K %s:%S", Some(b""), Some(b"")), ":0 :0");
    }

    #[test]
    fn escapes_give_single_bytes() {
        assert_eq!(show("\\x41\\t\\\\é", None, None), "A\t\\é");
        assert_eq!(unescape("a\\tb"), Ok(b"a\tb".to_vec()));
    }

    #[test]
    fn unknown_verbs_and_escapes_are_refused_by_name() {
        assert_eq!(Format::parse("%q"), Err("there is no verb %q".to_owned()));
        assert_eq!(Format::parse("\\q"), Err("there is no escape \\q".to_owned()));
        for bad in ["%H", "%H{x", "%", "\\", "\\x4", "\\xzz", "\\x+1"] {
            assert!(Format::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
