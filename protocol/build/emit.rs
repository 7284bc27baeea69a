//! Writes `messages.rs` (modules, structs, defaults, trait implementations) and `api_key.rs`.

use crate::{
    emit_decode, emit_encode,
    model::{Base, Field, Kind, Message, Module, Range, Struct},
};
use std::fmt::Write;

/// The text of `messages.rs`.
pub fn messages(modules: &[Module]) -> String {
    let mut out = String::new();
    for module in modules.iter().filter(|module| !module.messages.is_empty()) {
        let doc = match &module.api {
            Some(api) => format!("{}, key {}.", api.name, api.key),
            None => format!("The messages of `{}`.", module.name),
        };
        writeln!(out, "#[doc = {doc:?}]\npub mod {} {{", module.name).unwrap();
        writeln!(out, "#[allow(unused_imports)]\nuse crate::wire::generated::*;").unwrap();
        let mut names = Vec::new();
        for message in &module.messages {
            for s in &message.structs {
                assert!(!names.contains(&s.name), "{} is defined twice in {}", s.name, module.name);
                names.push(s.name.clone());
                definition(&mut out, message, s);
                default(&mut out, s, message);
                let (generics, ty) = (impl_generics(message, s), message.struct_type(s));
                writeln!(out, "impl{generics} {ty} {{").unwrap();
                let min = message.min_wire_size(s);
                if s.name != message.name {
                    writeln!(out, "/// The fewest bytes the struct takes on the wire.").unwrap();
                    writeln!(out, "pub(crate) const MIN_WIRE_SIZE: usize = {min};").unwrap();
                }
                emit_decode::decode(&mut out, message, s);
                emit_encode::encode(&mut out, message, s);
                writeln!(out, "}}").unwrap();
                // A message may be empty, an element of an array must not: that bounds what a frame can allocate.
                if s.name != message.name {
                    let elided = if message.borrows(s) { "<'static>" } else { "" };
                    writeln!(
                        out,
                        "const _: () = assert!({0}::MIN_WIRE_SIZE > 0 && \
                         size_of::<{0}{elided}>() <= MEMORY_FACTOR * {1});",
                        s.name,
                        message.usual_wire_size(s)
                    )
                    .unwrap();
                }
            }
            message_trait(&mut out, module, message);
        }
        writeln!(out, "}}").unwrap();
        for message in &module.messages {
            writeln!(out, "#[doc(inline)]\npub use {}::{};", module.name, message.name).unwrap();
        }
    }
    callback_macro(&mut out, modules);
    out
}

/// `<'a>` where the struct borrows, for `impl<'a> X<'a>`.
fn impl_generics(message: &Message, s: &Struct) -> &'static str {
    if message.borrows(s) { "<'a>" } else { "" }
}

fn definition(out: &mut String, message: &Message, s: &Struct) {
    let top = s.name == message.name;
    let doc = match message.kind {
        _ if !top => format!("Part of [`{}`], versions {}.", message.name, versions(s.versions)),
        Kind::Request => format!("Request, versions {}.", versions(s.versions)),
        Kind::Response => format!("Response, versions {}.", versions(s.versions)),
        Kind::Data => format!("Versions {}.", versions(s.versions)),
    };
    writeln!(out, "#[doc = {doc:?}]").unwrap();
    let derive_default = if needs_default_impl(s) { "" } else { ", Default" };
    writeln!(out, "#[derive(Debug, Clone, PartialEq{derive_default})]").unwrap();
    writeln!(out, "pub struct {} {{", message.struct_type(s)).unwrap();
    for field in &s.fields {
        let doc = field_doc(field, s);
        writeln!(out, "#[doc = {doc:?}]\npub {}: {},", field.ident(), field_type(field, message)).unwrap();
    }
    if message.ever_flexible() {
        writeln!(out, "/// Tagged fields that the schema does not know; they survive re-encoding.").unwrap();
        writeln!(out, "pub unknown_tagged_fields: TaggedFields<'a>,").unwrap();
    }
    writeln!(out, "}}").unwrap();
}

fn field_doc(field: &Field, s: &Struct) -> String {
    let mut notes = Vec::new();
    if field.versions != s.versions {
        let plural = if field.versions.low == field.versions.high { "" } else { "s" };
        notes.push(format!("version{plural} {}", versions(field.versions)));
    }
    if let Some(tag) = field.tag {
        notes.push(format!("tag {tag}"));
    }
    match field.nullable {
        Some(range) if range != field.versions => notes.push(format!("nullable in {}", versions(range))),
        Some(_) => notes.push("nullable".to_string()),
        None => {}
    }
    if let Some(default) = &field.default {
        notes.push(format!("default {default}"));
    }
    match (field.doc.as_str(), notes.is_empty()) {
        ("", _) => format!("`{}` ({}).", field.name, notes.join(", ")),
        (doc, true) => doc.to_string(),
        (doc, false) => format!("{doc} ({})", notes.join(", ")),
    }
}

fn versions(range: Range) -> String {
    if range.low == range.high { range.low.to_string() } else { format!("{}-{}", range.low, range.high) }
}

/// The type of one element of the field.
fn element_type(field: &Field, message: &Message) -> String {
    match &field.base {
        Base::Bool => "bool".to_string(),
        Base::Int8 => "i8".to_string(),
        Base::Int16 => "i16".to_string(),
        Base::Uint16 => "u16".to_string(),
        Base::Int32 => "i32".to_string(),
        Base::Int64 => "i64".to_string(),
        Base::Float64 => "f64".to_string(),
        Base::Uuid => "Uuid".to_string(),
        Base::String => "Cow<'a, str>".to_string(),
        Base::Bytes => "Cow<'a, [u8]>".to_string(),
        Base::Records => "Records<'a>".to_string(),
        Base::Struct(name) => message.struct_type(message.find(name)),
    }
}

fn field_type(field: &Field, message: &Message) -> String {
    let element = element_type(field, message);
    let value = match (field.array, field.few) {
        (true, true) => format!("Few<{element}>"),
        (true, false) => format!("Vec<{element}>"),
        (false, _) => element,
    };
    if field.nullable.is_some() { format!("Option<{value}>") } else { value }
}

/// Whether `#[derive(Default)]` would not give Kafka's defaults.
fn needs_default_impl(s: &Struct) -> bool {
    s.fields.iter().any(|field| match field.nullable {
        Some(_) => !field.null_default(),
        None => field.default.is_some(),
    })
}

/// The default value of the field as a Rust expression.
pub fn default_value(field: &Field) -> String {
    if field.null_default() {
        return "None".to_string();
    }
    let value = match (&field.base, &field.default) {
        _ if field.few => "Few::new()".to_string(),
        _ if field.array => "Vec::new()".to_string(),
        (Base::String, Some(default)) => format!("Cow::Borrowed({default})"),
        (Base::String, None) => "Cow::Borrowed(\"\")".to_string(),
        (Base::Bytes, _) => "Cow::Borrowed(&[])".to_string(),
        (Base::Records, _) => "Records::Borrowed(&[])".to_string(),
        (Base::Uuid, _) => "Uuid::nil()".to_string(),
        (Base::Struct(name), _) => format!("{name}::default()"),
        (_, Some(default)) => default.clone(),
        (Base::Bool, None) => "false".to_string(),
        (Base::Float64, None) => "0.0".to_string(),
        (_, None) => "0".to_string(),
    };
    if field.nullable.is_some() { format!("Some({value})") } else { value }
}

fn default(out: &mut String, s: &Struct, message: &Message) {
    if !needs_default_impl(s) {
        return;
    }
    let generics = impl_generics(message, s);
    writeln!(out, "impl{generics} Default for {} {{", message.struct_type(s)).unwrap();
    writeln!(out, "fn default() -> Self {{\nSelf {{").unwrap();
    for field in &s.fields {
        writeln!(out, "{}: {},", field.ident(), default_value(field)).unwrap();
    }
    if message.ever_flexible() {
        writeln!(out, "unknown_tagged_fields: TaggedFields::default(),").unwrap();
    }
    writeln!(out, "}}\n}}\n}}").unwrap();
}

fn message_trait(out: &mut String, module: &Module, message: &Message) {
    let s = &message.structs[0];
    let key = match (&module.api, message.kind) {
        (Some(api), Kind::Request | Kind::Response) => api.key,
        _ => -1,
    };
    let flexible = message.flexible_from.map_or("i16::MAX".to_string(), |from| from.to_string());
    let Range { low, high } = message.versions;
    let (name, ty) = (&message.name, message.struct_type(s));
    writeln!(
        out,
        "impl<'a> Message<'a> for {ty} {{
            const NAME: &'static str = {name:?};
            const KEY: i16 = {key};
            const VERSIONS: RangeInclusive<i16> = {low}..={high};
            const FLEXIBLE_FROM: i16 = {flexible};
            fn decode(d: &mut Decoder<'a>, version: i16) -> Result<Self, DecodeError> {{
                check_decode_version::<Self>(version)?;
                Self::decode_fields(d, version)
            }}
            fn encode(&self, e: &mut Encoder, version: i16) -> Result<(), EncodeError> {{
                check_encode_version::<Self>(version)?;
                self.encode_fields(e, version)
            }}
        }}"
    )
    .unwrap();
    if message.kind == Kind::Request {
        let response = module.messages.iter().find(|other| other.kind == Kind::Response);
        let response = response.unwrap_or_else(|| panic!("{name} has no response"));
        let ty_response = response.struct_type(&response.structs[0]).replace("'a", "'r");
        writeln!(out, "impl<'a> Request<'a> for {ty} {{\ntype Response<'r> = {ty_response};\n}}").unwrap();
    }
}

/// A macro that hands the list of all messages to another macro, for tests and fuzzers.
fn callback_macro(out: &mut String, modules: &[Module]) {
    writeln!(
        out,
        "/// Calls `$callback!` with one `kind, module, Type, key, lowest, highest;` for each message
        /// (`kind` is request, response or data), so that a test can be written once for all of them.
        #[macro_export]
        macro_rules! for_each_message {{ ($callback:ident) => {{ $callback! {{"
    )
    .unwrap();
    for module in modules {
        for message in &module.messages {
            let kind = match message.kind {
                Kind::Request => "request",
                Kind::Response => "response",
                Kind::Data => "data",
            };
            let key = module.api.as_ref().map_or(-1, |api| api.key);
            let Range { low, high } = message.versions;
            writeln!(out, "{kind}, {}, {}, {key}, {low}, {high};", module.name, message.name).unwrap();
        }
    }
    writeln!(out, "}} }} }}").unwrap();
}

/// The text of `api_key.rs`.
pub fn api_key(modules: &[Module]) -> String {
    let mut apis: Vec<_> = modules.iter().filter_map(|module| Some((module.api.as_ref()?, module))).collect();
    apis.sort_by_key(|(api, _)| api.key);
    let mut out = String::new();
    let name_arms = |f: &dyn Fn(&Module) -> Option<String>| -> String {
        apis.iter()
            .filter_map(|(api, module)| f(module).map(|value| format!("ApiKey::{} => {value},\n", api.name)))
            .collect()
    };
    writeln!(out, "/// The APIs of Kafka 4.1, also those whose messages this crate cannot decode.").unwrap();
    writeln!(out, "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(i16)]")
        .unwrap();
    writeln!(out, "pub enum ApiKey {{").unwrap();
    for (api, _) in &apis {
        writeln!(out, "/// Key {}.\n{} = {},", api.key, api.name, api.key).unwrap();
    }
    writeln!(out, "}}\nimpl ApiKey {{").unwrap();
    writeln!(out, "/// All keys, ascending.\npub const ALL: &'static [ApiKey] = &[").unwrap();
    for (api, _) in &apis {
        writeln!(out, "ApiKey::{},", api.name).unwrap();
    }
    writeln!(out, "];").unwrap();
    writeln!(out, "/// Kafka's name of the API.\npub const fn name(self) -> &'static str {{ match self {{")
        .unwrap();
    out.push_str(&name_arms(&|module| module.api.as_ref().map(|api| format!("{:?}", api.name))));
    writeln!(out, "}} }}").unwrap();

    writeln!(
        out,
        "/// The key with this number.\npub const fn from_i16(key: i16) -> Option<ApiKey> {{\nmatch key {{"
    )
    .unwrap();
    for (api, _) in &apis {
        writeln!(out, "{} => Some(ApiKey::{}),", api.key, api.name).unwrap();
    }
    writeln!(out, "_ => None,\n}} }}").unwrap();

    writeln!(
        out,
        "/// The versions whose requests and responses this crate encodes and decodes; None if there are none.
        pub const fn codec_versions(self) -> Option<RangeInclusive<i16>> {{ match self {{"
    )
    .unwrap();
    out.push_str(&name_arms(&|module| {
        let of = |kind| module.messages.iter().find(|message| message.kind == kind);
        let both = of(Kind::Request)?.versions.intersect(of(Kind::Response)?.versions);
        Some(format!("Some({}..={})", both.low, both.high))
    }));
    if apis.iter().any(|(_, module)| module.messages.is_empty()) {
        writeln!(out, "_ => None,").unwrap();
    }
    writeln!(out, "}} }}").unwrap();

    writeln!(
        out,
        "/// The first version with compact lengths and tagged fields; `i16::MAX` if there is none.
        pub const fn flexible_from(self) -> i16 {{ match self {{"
    )
    .unwrap();
    out.push_str(&name_arms(&|module| {
        let request = module.messages.iter().find(|message| message.kind == Kind::Request);
        let response = module.messages.iter().find(|message| message.kind == Kind::Response);
        let from = match (request, response) {
            (Some(request), Some(response)) => {
                assert_eq!(request.flexible_from, response.flexible_from, "{}", module.name);
                request.flexible_from
            }
            _ => module.api.as_ref()?.flexible_from,
        };
        Some(from.map_or("i16::MAX".to_string(), |from| from.to_string()))
    }));
    writeln!(out, "}} }}\n}}").unwrap();
    out
}
