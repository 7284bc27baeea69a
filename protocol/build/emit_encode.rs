//! Writes `encode_fields` of a struct.

use crate::{
    emit::default_value,
    emit_decode::{Flexible, flexible, flexible_binding},
    model::{Base, Field, Message, Struct},
};
use std::fmt::Write;

pub fn encode(out: &mut String, message: &Message, s: &Struct) {
    writeln!(out, "#[allow(unused_variables, clippy::manual_range_contains)]").unwrap();
    writeln!(
        out,
        "pub(crate) fn encode_fields(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {{"
    )
    .unwrap();
    flexible_binding(out, message, s);
    for field in s.plain() {
        let write = write_field(field, s);
        match field.versions.condition(s.versions) {
            None => writeln!(out, "{write}").unwrap(),
            Some(condition) if field.ignorable => writeln!(out, "if {condition} {{ {write} }}").unwrap(),
            Some(condition) => {
                writeln!(out, "if {condition} {{ {write} }} else {}", refuse(field, s, "")).unwrap();
            }
        }
    }
    if message.ever_flexible() {
        tags(out, message, s);
    }
    writeln!(out, "Ok(())\n}}").unwrap();
}

/// Refuses a value that the version has no room for.
fn refuse(field: &Field, s: &Struct, versions: &str) -> String {
    format!(
        "if {versions}{} {{ return Err(EncodeError::FieldNotInVersion {{ structure: {:?}, field: {:?}, version }}); }}",
        differs_from_default(field),
        s.name,
        field.name
    )
}

fn tags(out: &mut String, message: &Message, s: &Struct) {
    let tagged = s.tagged();
    for (index, field) in tagged.iter().enumerate() {
        assert_eq!(field.tag, Some(index as u32), "{}.{}: tags must count from 0", s.name, field.name);
        let present = differs_from_default(field);
        let present = match field.versions.condition(s.versions) {
            None => present,
            Some(condition) => {
                if !field.ignorable {
                    assert!(field.versions.high >= s.versions.high, "tagged fields do not end");
                    let before = format!("version < {} && ", field.versions.low);
                    writeln!(out, "{}", refuse(field, s, &before)).unwrap();
                }
                format!("({condition}) && ({present})")
            }
        };
        writeln!(out, "let tag_{index} = {present};").unwrap();
    }
    let known: Vec<_> = (0..tagged.len()).map(|index| format!("usize::from(tag_{index})")).collect();
    let known = if known.is_empty() { "0".to_string() } else { known.join(" + ") };
    let mut section = format!("e.tag_section({known}, {}, &self.unknown_tagged_fields)?;\n", tagged.len());
    for (index, field) in tagged.iter().enumerate() {
        writeln!(
            section,
            "if tag_{index} {{ let start = e.begin_tag({index}); {} e.end_tag(start)?; }}",
            write_field(field, s)
        )
        .unwrap();
    }
    section.push_str("self.unknown_tagged_fields.encode_entries(e)?;\n");
    match flexible(message, s) {
        Flexible::Never => {}
        Flexible::Always => out.push_str(&section),
        Flexible::When(_) => {
            writeln!(
                out,
                "if flexible {{ {section} }} else {{ self.unknown_tagged_fields.refuse(version)?; }}"
            )
            .unwrap();
        }
    }
}

/// An expression that tells whether the field holds something else than its default.
fn differs_from_default(field: &Field) -> String {
    let value = format!("self.{}", field.ident());
    if field.nullable.is_some() {
        return if field.null_default() {
            format!("{value}.is_some()")
        } else if field.array || matches!(field.base, Base::String | Base::Bytes) && field.default.is_none() {
            format!("{value}.as_ref().is_none_or(|value| !value.is_empty())")
        } else {
            format!("{value} != {}", default_value(field))
        };
    }
    match &field.base {
        _ if field.array => format!("!{value}.is_empty()"),
        Base::String | Base::Bytes | Base::Records if field.default.is_none() => {
            format!("!{value}.is_empty()")
        }
        Base::Bool if default_value(field) == "false" => value,
        Base::Bool => format!("!{value}"),
        Base::Uuid => format!("!{value}.is_nil()"),
        _ => format!("{value} != {}", default_value(field)),
    }
}

/// The statement that writes a field in a version that has it.
fn write_field(field: &Field, s: &Struct) -> String {
    let value = format!("self.{}", field.ident());
    let Some(nullable) = field.nullable else {
        return write_value(field, &format!("&{value}"));
    };
    let null = write_null(field);
    let refuse = format!(
        "return Err(EncodeError::UnexpectedNull {{ structure: {:?}, field: {:?}, version }})",
        s.name, field.name
    );
    let null = match nullable.intersect(field.versions).condition(field.versions) {
        None => null,
        Some(condition) => format!("if {condition} {{ {null} }} else {{ {refuse}; }}"),
    };
    let mut present = write_value(field, "value");
    if !field.array && matches!(field.base, Base::Struct(_)) {
        present = match nullable.condition(field.versions) {
            None => format!("e.int8(1); {present}"),
            Some(condition) => format!("if {condition} {{ e.int8(1); }} {present}"),
        };
    }
    format!("match &{value} {{ Some(value) => {{ {present} }} None => {{ {null} }} }}")
}

fn write_null(field: &Field) -> String {
    let flexible = if field.classic { "false" } else { "flexible" };
    match &field.base {
        _ if field.array => format!("e.null_array({flexible});"),
        Base::String => format!("e.null_string({flexible});"),
        Base::Bytes | Base::Records => format!("e.null_bytes({flexible});"),
        Base::Struct(_) => "e.int8(-1);".to_string(),
        other => panic!("{}: {other:?} cannot be null", field.name),
    }
}

/// The statement that writes the value behind the reference `value`.
fn write_value(field: &Field, value: &str) -> String {
    let flexible = if field.classic { "false" } else { "flexible" };
    if field.array {
        let place = value.strip_prefix('&').unwrap_or(value);
        return format!(
            "e.array_len({flexible}, {place}.len())?; for value in {value} {{ {} }}",
            write_scalar(&field.base, flexible, "value")
        );
    }
    write_scalar(&field.base, flexible, value)
}

fn write_scalar(base: &Base, flexible: &str, value: &str) -> String {
    // A reference to a field of self needs no detour: `&self.x` is read as `self.x`.
    let copied = value.strip_prefix('&').map_or(format!("*{value}"), str::to_string);
    let place = value.strip_prefix('&').unwrap_or(value);
    match base {
        Base::Bool => format!("e.bool({copied});"),
        Base::Int8 => format!("e.int8({copied});"),
        Base::Int16 => format!("e.int16({copied});"),
        Base::Uint16 => format!("e.uint16({copied});"),
        Base::Int32 => format!("e.int32({copied});"),
        Base::Int64 => format!("e.int64({copied});"),
        Base::Float64 => format!("e.float64({copied});"),
        Base::Uuid => format!("e.uuid({copied});"),
        Base::String => format!("e.string({flexible}, {value})?;"),
        Base::Bytes => format!("e.bytes({flexible}, {value})?;"),
        Base::Records => format!("e.records({flexible}, {value})?;"),
        Base::Struct(_) => format!("{place}.encode_fields(e, version)?;"),
    }
}
