//! The parsed schema: modules, messages, structs, fields; and the questions the emitters ask about them.

/// An inclusive range of versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub low: i16,
    pub high: i16,
}

impl Range {
    pub fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }

    pub fn intersect(self, other: Range) -> Range {
        Range { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    /// The condition on `version` that tells this range, for a version known to be in `valid`; None if it always holds.
    pub fn condition(self, valid: Range) -> Option<String> {
        match (self.low <= valid.low, self.high >= valid.high) {
            (true, true) => None,
            (false, true) => Some(format!("version >= {}", self.low)),
            (true, false) => Some(format!("version <= {}", self.high)),
            (false, false) if self.low == self.high => Some(format!("version == {}", self.low)),
            (false, false) => Some(format!("({}..={}).contains(&version)", self.low, self.high)),
        }
    }
}

/// One Rust module: an API, or a few data messages that belong together.
pub struct Module {
    pub name: String,
    pub api: Option<Api>,
    pub messages: Vec<Message>,
}

/// An API key; without messages if only its name and its first flexible version are known.
pub struct Api {
    pub name: String,
    pub key: i16,
    pub flexible_from: Option<i16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Data,
}

/// A top-level message; `structs[0]` is the message itself.
pub struct Message {
    pub name: String,
    pub kind: Kind,
    pub versions: Range,
    pub flexible_from: Option<i16>,
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn find(&self, name: &str) -> &Struct {
        self.structs
            .iter()
            .find(|s| s.name == name)
            .unwrap_or_else(|| panic!("{}: no struct {name}", self.name))
    }

    pub fn flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    /// Whether any version in use is flexible, so that the structs carry unknown tagged fields.
    pub fn ever_flexible(&self) -> bool {
        self.flexible(self.versions.high)
    }

    /// Whether the struct borrows from the frame and so has a lifetime parameter.
    pub fn borrows(&self, s: &Struct) -> bool {
        self.ever_flexible()
            || s.fields.iter().any(|field| match &field.base {
                Base::String | Base::Bytes | Base::Records => true,
                Base::Struct(name) => self.borrows(self.find(name)),
                _ => false,
            })
    }

    /// The Rust type of the struct, with its lifetime if it has one.
    pub fn struct_type(&self, s: &Struct) -> String {
        if self.borrows(s) { format!("{}<'a>", s.name) } else { s.name.clone() }
    }

    /// The fewest bytes that the struct takes on the wire in any of its versions.
    pub fn min_wire_size(&self, s: &Struct) -> usize {
        self.min_of_versions(s, false)
    }

    /// As [`Message::min_wire_size`], if every array that mostly has one element has one.
    pub fn usual_wire_size(&self, s: &Struct) -> usize {
        self.min_of_versions(s, true)
    }

    fn min_of_versions(&self, s: &Struct, usual: bool) -> usize {
        let sizes = (s.versions.low..=s.versions.high).map(|version| self.wire_size(s, version, usual));
        sizes.min().expect("not empty")
    }

    fn wire_size(&self, s: &Struct, version: i16, usual: bool) -> usize {
        let flexible = self.flexible(version);
        let fields = s.fields.iter().filter(|field| field.tag.is_none() && field.versions.contains(version));
        let size: usize = fields
            .map(|field| {
                let compact = flexible && !field.classic;
                match &field.base {
                    _ if field.array => {
                        let length = if compact { 1 } else { 4 };
                        let element = match &field.base {
                            Base::Struct(name) if field.few && usual => {
                                self.wire_size(self.find(name), version, usual)
                            }
                            _ => 0,
                        };
                        length + element
                    }
                    Base::Bool | Base::Int8 => 1,
                    Base::Int16 | Base::Uint16 => 2,
                    Base::Int32 => 4,
                    Base::Int64 | Base::Float64 => 8,
                    Base::Uuid => 16,
                    Base::String => {
                        if compact {
                            1
                        } else {
                            2
                        }
                    }
                    Base::Bytes | Base::Records => {
                        if compact {
                            1
                        } else {
                            4
                        }
                    }
                    Base::Struct(_) if field.nullable.is_some() => 1,
                    Base::Struct(name) => self.wire_size(self.find(name), version, usual),
                }
            })
            .sum();
        size + usize::from(flexible)
    }
}

pub struct Struct {
    pub name: String,
    /// The versions in which the struct can occur.
    pub versions: Range,
    pub fields: Vec<Field>,
}

impl Struct {
    /// Fields that are written one after the other, in order.
    pub fn plain(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.tag.is_none())
    }

    /// Tagged fields by ascending tag.
    pub fn tagged(&self) -> Vec<&Field> {
        let mut tagged: Vec<_> = self.fields.iter().filter(|field| field.tag.is_some()).collect();
        tagged.sort_by_key(|field| field.tag);
        tagged
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Base {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
}

pub struct Field {
    pub name: String,
    pub base: Base,
    pub array: bool,
    /// The versions in which null is allowed.
    pub nullable: Option<Range>,
    pub versions: Range,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub ignorable: bool,
    pub classic: bool,
    /// Whether the array mostly has one element.
    pub few: bool,
    pub doc: String,
}

impl Field {
    /// Whether the default value is null.
    pub fn null_default(&self) -> bool {
        self.default.as_deref() == Some("null")
    }

    /// The field's name as a Rust identifier.
    pub fn ident(&self) -> String {
        match self.name.as_str() {
            "match" | "type" => format!("r#{}", self.name),
            _ => self.name.clone(),
        }
    }
}
