//! What `produce` reads: lines or JSON objects, and the records that they stand for.

use serde_json::Value;

use super::ProduceArgs;

/// A header's name and value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record as the input describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Input {
    /// Its key; `None`: null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None`: null.
    pub value: Option<Vec<u8>>,
    /// Names and values of its headers.
    pub headers: Vec<Header>,
    /// Its partition, if the input says so.
    pub partition: Option<i32>,
    /// Its time in ms since 1970, if the input says so.
    pub timestamp: Option<i64>,
}

/// Reads one piece of input between two delimiters; the error says what is wrong with it.
pub fn parse(args: &ProduceArgs, text: &[u8]) -> Result<Input, String> {
    let mut input = if args.json_input { json_input(args, text)? } else { line_input(args, text)? };
    let common =
        args.header.iter().map(|(name, value)| (name.clone().into_bytes(), Some(value.clone().into_bytes())));
    input.headers.splice(0..0, common);
    Ok(input)
}

fn line_input(args: &ProduceArgs, line: &[u8]) -> Result<Input, String> {
    let (headers, line) = match &args.header_separator {
        Some(separator) => {
            let (headers, rest) = split(line, separator).ok_or("it has no header separator")?;
            (parse_headers(headers)?, rest)
        }
        None => (Vec::new(), line),
    };
    let (key, value) = match &args.key_separator {
        Some(separator) => split(line, separator).map_or((None, line), |(key, value)| (Some(key), value)),
        None => (args.key.as_deref().map(str::as_bytes), line),
    };
    let is_null = |text: &[u8]| args.null.as_deref() == Some(text);
    let key = key.filter(|key| !is_null(key));
    let key =
        key.map(|key| args.key_type.read(key)).transpose().map_err(|reason| format!("key: {reason}"))?;
    let value = if is_null(value) || (value.is_empty() && args.null_empty) {
        None
    } else {
        let read = args.value_type.read(value).map_err(|reason| format!("value: {reason}"))?;
        Some(read.into_owned())
    };
    Ok(Input { key: key.map(|key| key.into_owned()), value, headers, ..Input::default() })
}

/// Splits at the first `separator`.
fn split<'a>(line: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = line.windows(separator.len()).position(|window| window == separator)?;
    Some((&line[..at], &line[at + separator.len()..]))
}

/// `name=value,name=value`; nothing for an empty text.
fn parse_headers(text: &[u8]) -> Result<Vec<Header>, String> {
    let header = |text: &[u8]| match split(text, b"=") {
        Some((name, value)) => Ok((name.to_vec(), Some(value.to_vec()))),
        None => Err(format!("'{}' is no header: write name=value", String::from_utf8_lossy(text))),
    };
    text.split(|byte| *byte == b',').filter(|text| !text.is_empty()).map(header).collect()
}

/// An object as `consume --json` prints it; all fields but the value may be left out, and unknown ones are passed over.
fn json_input(args: &ProduceArgs, text: &[u8]) -> Result<Input, String> {
    let object: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    if !object.is_object() {
        return Err("it is no JSON object with a field 'value'".to_owned());
    }
    let number = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("{name}: {value} is no whole number")),
    };
    let bytes = |name: &str, encoding: super::Encoding| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => encoding.read_json(value).map_err(|reason| format!("{name}: {reason}")),
    };
    let partition = number("partition")?;
    let partition = partition
        .map(|partition| i32::try_from(partition).map_err(|_| format!("there is no partition {partition}")));
    Ok(Input {
        key: bytes("key", args.key_type)?,
        value: bytes("value", args.value_type)?,
        headers: json_headers(object.get("headers"))?,
        partition: partition.transpose()?,
        timestamp: number("timestamp")?,
    })
}

/// `[["name", "value"], …]` or `{"name": "value", …}`.
fn json_headers(headers: Option<&Value>) -> Result<Vec<Header>, String> {
    let header = |name: &str, value: &Value| {
        let value =
            super::Encoding::String.read_json(value).map_err(|reason| format!("header {name}: {reason}"))?;
        Ok((name.as_bytes().to_vec(), value))
    };
    match headers {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(headers)) => headers.iter().map(|(name, value)| header(name, value)).collect(),
        Some(Value::Array(headers)) => headers
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([Value::String(name), value]) => header(name, value),
                _ => Err(format!("{pair} is no header: write [\"name\", \"value\"]")),
            })
            .collect(),
        Some(other) => Err(format!("headers: {other} is neither a list nor an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Options {
        #[command(flatten)]
        args: ProduceArgs,
    }

    fn read(options: &str, text: &str) -> Result<Input, String> {
        let words = ["produce", "t"].into_iter().chain(options.split_whitespace());
        parse(&Options::try_parse_from(words).expect("valid options").args, text.as_bytes())
    }

    fn bytes(text: &str) -> Option<Vec<u8>> {
        Some(text.as_bytes().to_vec())
    }

    #[test]
    fn a_line_is_headers_key_and_value_as_far_as_separators_are_given() {
        let input = read(r"-K : --header-separator \t -H all=1", "a=1,b=\tk:v:w").expect("read");
        assert_eq!((input.key, input.value), (bytes("k"), bytes("v:w")));
        let names: Vec<_> = input.headers.iter().map(|(name, _)| String::from_utf8_lossy(name)).collect();
        assert_eq!(names, ["all", "a", "b"]);
        assert_eq!(read("-K :", "plain").expect("read").key, None);
        assert!(read(r"--header-separator \t", "none").is_err());
        assert!(read(r"--header-separator \t", "broken\tv").is_err_and(|reason| reason.contains("'broken'")));
    }

    #[test]
    fn null_is_what_was_named_so() {
        let input = read("-K : --null NULL", "NULL:NULL").expect("read");
        assert_eq!((input.key, input.value), (None, None));
        assert_eq!(read("--null-empty", "").expect("read").value, None);
        assert_eq!(read("", "").expect("read").value, bytes(""));
    }

    #[test]
    fn numbers_and_hexadecimal_digits_become_bytes() {
        let input = read("-K : --key-type int64 --value-type hex", "7:00ff").expect("read");
        assert_eq!((input.key, input.value), (Some(vec![0, 0, 0, 0, 0, 0, 0, 7]), Some(vec![0, 255])));
        assert!(read("--value-type json", "{").is_err_and(|reason| reason.starts_with("value: ")));
    }

    #[test]
    fn json_objects_carry_all_that_a_record_has() {
        let text = r#"{"topic":"x","partition":2,"offset":9,"timestamp":77,"key":null,"value":{"hex":"ff"},"headers":[["a","1"],["b",null]]}"#;
        let input = read("--json-input", text).expect("read");
        let expected = Input {
            key: None,
            value: Some(vec![255]),
            headers: vec![(b"a".to_vec(), bytes("1")), (b"b".to_vec(), None)],
            partition: Some(2),
            timestamp: Some(77),
        };
        assert_eq!(input, expected);
        assert_eq!(
            read("--json-input", r#"{"value":5,"headers":{"a":"1"}}"#).expect("read").value,
            bytes("5")
        );
        for bad in ["[]", "5", "{", r#"{"partition":"x"}"#, r#"{"headers":[1]}"#, r#"{"value":[]}"#] {
            assert!(read("--json-input", bad).is_err(), "{bad} was accepted");
        }
    }
}
