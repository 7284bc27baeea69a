//! Writes `decode_fields` of a struct.

use crate::{
    emit::default_value,
    model::{Base, Field, Message, Struct},
};
use std::fmt::Write;

/// The condition that the version is flexible, given that the struct exists only in some versions.
pub enum Flexible {
    Never,
    Always,
    When(String),
}

pub fn flexible(message: &Message, s: &Struct) -> Flexible {
    match message.flexible_from {
        Some(from) if from <= s.versions.low => Flexible::Always,
        Some(from) if from <= s.versions.high => Flexible::When(format!("version >= {from}")),
        _ => Flexible::Never,
    }
}

/// `let flexible = …;`
pub fn flexible_binding(out: &mut String, message: &Message, s: &Struct) {
    let value = match flexible(message, s) {
        Flexible::Never => "false".to_string(),
        Flexible::Always => "true".to_string(),
        Flexible::When(condition) => condition,
    };
    writeln!(out, "let flexible = {value};").unwrap();
}

pub fn decode(out: &mut String, message: &Message, s: &Struct) {
    writeln!(out, "#[allow(unused_variables, clippy::manual_range_contains)]").unwrap();
    writeln!(
        out,
        "pub(crate) fn decode_fields(d: &mut Decoder<{}>, version: i16) -> Result<Self, DecodeError> {{",
        if message.borrows(s) { "'a" } else { "'_" }
    )
    .unwrap();
    flexible_binding(out, message, s);
    for field in s.plain() {
        let read = read(field, message);
        let value = match field.versions.condition(s.versions) {
            None => read,
            Some(condition) => format!("if {condition} {{ {read} }} else {{ {} }}", default_value(field)),
        };
        writeln!(out, "let {} = {value};", field.ident()).unwrap();
    }
    if message.ever_flexible() {
        tags(out, message, s);
    }
    writeln!(out, "Ok(Self {{").unwrap();
    for field in &s.fields {
        writeln!(out, "{},", field.ident()).unwrap();
    }
    if message.ever_flexible() {
        writeln!(out, "unknown_tagged_fields,").unwrap();
    }
    writeln!(out, "}})\n}}").unwrap();
}

/// Reads the tagged fields, known ones into their variables, the others into `unknown_tagged_fields`.
fn tags(out: &mut String, message: &Message, s: &Struct) {
    let tagged = s.tagged();
    let condition = match flexible(message, s) {
        Flexible::Never => {
            writeln!(out, "let unknown_tagged_fields = TaggedFields::default();").unwrap();
            return;
        }
        Flexible::Always => "true",
        Flexible::When(_) => "flexible",
    };
    if tagged.is_empty() {
        let value = if condition == "true" {
            "TaggedFields::decode(d)?"
        } else {
            "if flexible { TaggedFields::decode(d)? } else { TaggedFields::default() }"
        };
        writeln!(out, "let unknown_tagged_fields = {value};").unwrap();
        return;
    }
    for field in &tagged {
        writeln!(out, "let mut {} = {};", field.ident(), default_value(field)).unwrap();
    }
    writeln!(out, "let mut unknown_tagged_fields = TaggedFields::default();").unwrap();
    if condition == "flexible" {
        writeln!(out, "if flexible {{").unwrap();
    }
    writeln!(out, "let count = d.tag_count()?;\nfor index in 0..count {{").unwrap();
    writeln!(out, "let (tag, size) = d.tag_header()?;\nmatch tag {{").unwrap();
    for field in &tagged {
        let guard = field
            .versions
            .condition(s.versions)
            .map_or(String::new(), |condition| format!(" if {condition}"));
        let tag = field.tag.expect("tagged");
        writeln!(
            out,
            "{tag}{guard} => {{ let outer = d.enter(size)?; {} = {}; d.leave(outer)?; }}",
            field.ident(),
            read(field, message)
        )
        .unwrap();
    }
    if tagged.iter().any(|field| field.versions.condition(s.versions).is_some()) {
        writeln!(out, "0..{} => return Err(DecodeError::TagNotInVersion {{ tag, version }}),", tagged.len())
            .unwrap();
    }
    writeln!(out, "_ => unknown_tagged_fields.read(d, tag, size, count - index)?,").unwrap();
    writeln!(out, "}}\n}}\nunknown_tagged_fields.sort();").unwrap();
    if condition == "flexible" {
        writeln!(out, "}}").unwrap();
    }
}

/// The expression that reads a field in a version that has it.
fn read(field: &Field, message: &Message) -> String {
    let Some(nullable) = field.nullable else {
        return read_value(field, message, false);
    };
    match nullable.condition(field.versions) {
        None => read_value(field, message, true),
        Some(condition) => format!(
            "if {condition} {{ {} }} else {{ Some({}) }}",
            read_value(field, message, true),
            read_value(field, message, false)
        ),
    }
}

fn read_value(field: &Field, message: &Message, nullable: bool) -> String {
    let flexible = if field.classic { "false" } else { "flexible" };
    let prefix = if nullable { "nullable_" } else { "" };
    if field.array {
        let (min, element) = match &field.base {
            Base::Struct(name) => {
                (format!("{name}::MIN_WIRE_SIZE"), format!("|d| {name}::decode_fields(d, version)"))
            }
            base => (element_size(base, flexible), format!("|d| {}", read_scalar(base, flexible, ""))),
        };
        let list = if field.few { "few" } else { "array" };
        return format!("d.{prefix}{list}({flexible}, {min}, {element})?");
    }
    match &field.base {
        Base::Struct(name) => {
            let _ = message;
            if nullable {
                format!(
                    "if d.struct_present()? {{ Some({name}::decode_fields(d, version)?) }} else {{ None }}"
                )
            } else {
                format!("{name}::decode_fields(d, version)?")
            }
        }
        base => format!("{}?", read_scalar(base, flexible, prefix)),
    }
}

/// The fewest bytes of an element that is no struct.
fn element_size(base: &Base, flexible: &str) -> String {
    match base {
        Base::Bool | Base::Int8 => "1".to_string(),
        Base::Int16 | Base::Uint16 => "2".to_string(),
        Base::Int32 => "4".to_string(),
        Base::Int64 | Base::Float64 => "8".to_string(),
        Base::Uuid => "16".to_string(),
        Base::String => format!("if {flexible} {{ 1 }} else {{ 2 }}"),
        Base::Bytes | Base::Records => format!("if {flexible} {{ 1 }} else {{ 4 }}"),
        Base::Struct(_) => unreachable!("structs know their own size"),
    }
}

fn read_scalar(base: &Base, flexible: &str, prefix: &str) -> String {
    match base {
        Base::Bool => "d.bool()".to_string(),
        Base::Int8 => "d.int8()".to_string(),
        Base::Int16 => "d.int16()".to_string(),
        Base::Uint16 => "d.uint16()".to_string(),
        Base::Int32 => "d.int32()".to_string(),
        Base::Int64 => "d.int64()".to_string(),
        Base::Float64 => "d.float64()".to_string(),
        Base::Uuid => "d.uuid()".to_string(),
        Base::String => format!("d.{prefix}string({flexible})"),
        Base::Bytes => format!("d.{prefix}bytes({flexible})"),
        Base::Records => format!("d.{prefix}records({flexible})"),
        Base::Struct(_) => unreachable!("handled by the caller"),
    }
}
