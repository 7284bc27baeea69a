//! Writes `generate.rs`: for each struct a function that fills it with random values valid in a version.
//!
//! The tests include it and provide the trait `Generate` and the source of randomness `Gen`.

use crate::model::{Base, Field, Message, Module, Struct};
use std::fmt::Write;

pub fn generators(modules: &[Module]) -> String {
    let mut out = String::new();
    for module in modules {
        for message in &module.messages {
            for s in &message.structs {
                generator(&mut out, module, message, s);
            }
        }
    }
    out
}

fn generator(out: &mut String, module: &Module, message: &Message, s: &Struct) {
    let lifetime = if message.borrows(s) { "<'static>" } else { "" };
    let path = format!("protocol::messages::{}::{}", module.name, s.name);
    writeln!(out, "impl Generate for {path}{lifetime} {{").unwrap();
    writeln!(
        out,
        "#[allow(unused_variables, clippy::all)]\nfn generate(g: &mut Gen, version: i16) -> Self {{"
    )
    .unwrap();
    writeln!(out, "let mut value = {path}::default();").unwrap();
    for field in &s.fields {
        let fill = format!("value.{} = {};", field.ident(), random(module, field));
        match field.versions.condition(s.versions) {
            None => writeln!(out, "{fill}").unwrap(),
            Some(condition) => writeln!(out, "if {condition} {{ {fill} }}").unwrap(),
        }
    }
    if let Some(from) = message.flexible_from.filter(|_| message.ever_flexible()) {
        let known = s.tagged().len();
        writeln!(out, "if version >= {from} {{ value.unknown_tagged_fields = g.tagged_fields({known}); }}")
            .unwrap();
    }
    writeln!(out, "value\n}}\n}}").unwrap();
}

fn random(module: &Module, field: &Field) -> String {
    let element = match &field.base {
        Base::Bool => "g.bool()".to_string(),
        Base::Int8 => "g.int() as i8".to_string(),
        Base::Int16 => "g.int() as i16".to_string(),
        Base::Uint16 => "g.int() as u16".to_string(),
        Base::Int32 => "g.int() as i32".to_string(),
        Base::Int64 => "g.int()".to_string(),
        Base::Float64 => "g.float()".to_string(),
        Base::Uuid => "g.uuid()".to_string(),
        Base::String => "g.string()".to_string(),
        Base::Bytes => "g.bytes()".to_string(),
        Base::Records => "g.records()".to_string(),
        Base::Struct(name) => {
            format!("Generate::generate(g, version) /* {}::{name} */", module.name)
        }
    };
    let value = match (field.array, field.few) {
        (true, true) => format!("g.array(|g| {element}).into()"),
        (true, false) => format!("g.array(|g| {element})"),
        (false, _) => element,
    };
    let Some(nullable) = field.nullable else { return value };
    match nullable.condition(field.versions) {
        None => format!("g.option(|g| {value})"),
        Some(condition) => format!("if {condition} {{ g.option(|g| {value}) }} else {{ Some({value}) }}"),
    }
}
