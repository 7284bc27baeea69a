//! The verbs of `consume --format`, as kcat has them.

use std::io::{self, Write};

use protocol::records::Record;

/// What the verbs mean, for `--help`.
pub const VERBS: &str = "\
Format verbs:
  %t topic      %p partition   %o offset    %T timestamp (ms)
  %k key        %K its length (-1: null)    %h headers as name=value,…
  %s value      %S its length (-1: null)    %% percent sign
  \\n \\r \\t \\0 \\\\ \\xHH as in C";

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

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
    pub fn write(
        &self,
        topic: &str,
        partition: i32,
        record: &Record<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Topic => out.write_all(topic.as_bytes())?,
                Piece::Partition => write!(out, "{partition}")?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Key => out.write_all(record.key.unwrap_or_default())?,
                Piece::KeyLength => write!(out, "{}", length(record.key))?,
                Piece::Value => out.write_all(record.value.unwrap_or_default())?,
                Piece::ValueLength => write!(out, "{}", length(record.value))?,
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
        'k' => Piece::Key,
        'K' => Piece::KeyLength,
        's' => Piece::Value,
        'S' => Piece::ValueLength,
        'h' => Piece::Headers,
        _ => return None,
    })
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
        format.write("orders", 3, &record, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_verb_shows_its_part_of_the_record() {
        let shown = show("%t/%p@%o %T %k(%K)=%s(%S) [%h] 100%%\\n", Some(b"key"), Some(b"value"));
        assert_eq!(shown, "orders/3@41 1234 key(3)=value(5) [a=1,b=NULL] 100%\n");
    }

    #[test]
    fn null_and_empty_differ_in_their_length() {
        assert_eq!(show("%k:%K %s:%S", None, None), ":-1 :-1");
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
        for bad in ["%", "\\", "\\x4", "\\xzz", "\\x+1"] {
            assert!(Format::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
