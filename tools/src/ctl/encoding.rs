//! How keys and values are written as text, and read from it.

use std::borrow::Cow;

use serde_json::{Value, json};

/// What the bytes of a key or value mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Encoding {
    /// Text, passed on as it is
    #[default]
    String,
    /// Any bytes, as hexadecimal digits
    Hex,
    /// JSON, checked, and written on one line
    Json,
    /// A whole number in 4 bytes, as Kafka's IntegerSerializer writes it
    Int32,
    /// A whole number in 8 bytes, as Kafka's LongSerializer writes it
    Int64,
}

impl Encoding {
    /// A record's bytes as text for people.
    pub fn show<'a>(self, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, String> {
        match self {
            Encoding::String => Ok(bytes.into()),
            Encoding::Hex => Ok(hex(bytes).into_bytes().into()),
            Encoding::Json => Ok(parse_json(bytes)?.to_string().into_bytes().into()),
            Encoding::Int32 => Ok(fixed(bytes).map(i32::from_be_bytes)?.to_string().into_bytes().into()),
            Encoding::Int64 => Ok(fixed(bytes).map(i64::from_be_bytes)?.to_string().into_bytes().into()),
        }
    }

    /// A record's bytes as JSON. Bytes that should be text and are none become `{"hex": …}`.
    pub fn to_json(self, bytes: Option<&[u8]>) -> Result<Value, String> {
        let Some(bytes) = bytes else {
            return Ok(Value::Null);
        };
        match self {
            Encoding::String => Ok(match std::str::from_utf8(bytes) {
                Ok(text) => Value::from(text),
                Err(_) => json!({ "hex": hex(bytes) }),
            }),
            Encoding::Hex => Ok(json!({ "hex": hex(bytes) })),
            Encoding::Json => parse_json(bytes),
            Encoding::Int32 => Ok(fixed(bytes).map(i32::from_be_bytes)?.into()),
            Encoding::Int64 => Ok(fixed(bytes).map(i64::from_be_bytes)?.into()),
        }
    }

    /// The bytes that `text` stands for.
    pub fn read(self, text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Encoding::String => Ok(text.into()),
            Encoding::Hex => Ok(unhex(text)?.into()),
            Encoding::Json => {
                parse_json(text)?;
                Ok(text.into())
            }
            Encoding::Int32 => Ok(parse::<i32>(text)?.to_be_bytes().to_vec().into()),
            Encoding::Int64 => Ok(parse::<i64>(text)?.to_be_bytes().to_vec().into()),
        }
    }

    /// The bytes that a JSON value stands for: what [`Encoding::to_json`] has made of them.
    pub fn read_json(self, value: &Value) -> Result<Option<Vec<u8>>, String> {
        if let (Some(digits), true) = (hex_object(value), self != Encoding::Json) {
            return unhex(digits.as_bytes()).map(Some);
        }
        match (self, value) {
            (Encoding::Json, value) => Ok(Some(value.to_string().into_bytes())),
            (_, Value::Null) => Ok(None),
            (_, Value::String(text)) => Ok(Some(self.read(text.as_bytes())?.into_owned())),
            (_, Value::Number(number)) => Ok(Some(self.read(number.to_string().as_bytes())?.into_owned())),
            (_, other) => Err(format!("{other} is neither text nor a number nor {{\"hex\": …}}")),
        }
    }
}

fn hex_object(value: &Value) -> Option<&str> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.get("hex")?.as_str()
}

fn parse_json(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON: {error}"))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("a number of {N} bytes was expected, not {} bytes", bytes.len()))
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &[u8]) -> Result<T, String> {
    let text = String::from_utf8_lossy(text);
    text.trim().parse().map_err(|error| format!("'{text}' is no number that fits: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.chunks(2).map(pair).collect();
    bytes.ok_or_else(|| {
        format!("'{}' is not made of pairs of hexadecimal digits", String::from_utf8_lossy(text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_reads_what_it_shows() {
        for (encoding, bytes, text) in [
            (Encoding::String, "é\u{0}".as_bytes(), "é\u{0}"),
            (Encoding::Hex, &[0xff, 0x00][..], "ff00"),
            (Encoding::Json, br#"{"a":[1,null]}"#, r#"{"a":[1,null]}"#),
            (Encoding::Int32, &[0xff, 0xff, 0xff, 0xfe], "-2"),
            (Encoding::Int64, &[0, 0, 0, 0, 0, 0, 1, 0], "256"),
        ] {
            assert_eq!(encoding.show(bytes).expect("shown").as_ref(), text.as_bytes(), "{encoding:?}");
            assert_eq!(encoding.read(text.as_bytes()).expect("read").as_ref(), bytes, "{encoding:?}");
            let value = encoding.to_json(Some(bytes)).expect("JSON");
            assert_eq!(encoding.read_json(&value).expect("read").as_deref(), Some(bytes), "{encoding:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_what_they_should_be_are_refused_with_a_reason() {
        for (encoding, text) in [
            (Encoding::Hex, "abc"),
            (Encoding::Hex, "zz"),
            (Encoding::Json, "{"),
            (Encoding::Int32, "3000000000"),
            (Encoding::Int64, "x"),
        ] {
            assert!(encoding.read(text.as_bytes()).is_err(), "{encoding:?} took {text}");
        }
        assert!(Encoding::Int64.show(b"1234").is_err_and(|reason| reason.contains("8 bytes")));
    }

    #[test]
    fn bytes_that_are_no_text_become_hex_in_json() {
        assert_eq!(Encoding::String.to_json(None), Ok(Value::Null));
        assert_eq!(Encoding::String.to_json(Some("é".as_bytes())), Ok(json!("é")));
        assert_eq!(Encoding::String.to_json(Some(&[0xff, 0x00])), Ok(json!({ "hex": "ff00" })));
    }
}
