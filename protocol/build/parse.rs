//! Reads the schema language (see `schema/README.md`) into the model.

use crate::model::{Api, Base, Field, Kind, Message, Module, Range, Struct};

/// The line number and what is wrong there.
type Problem = (usize, String);

pub fn parse(text: &str) -> Result<Vec<Module>, Problem> {
    let lines: Vec<Line> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with("//"))
        .map(|(number, line)| Line::new(number + 1, line))
        .collect();

    let mut modules: Vec<Module> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = &lines[at];
        let problem = |text: &str| Err((line.number, text.to_string()));
        if line.indent != 0 {
            return problem("expected api, module, request, response, data or struct");
        }
        let words = &line.words;
        at += 1;
        match words[0].as_str() {
            "api" => modules.push(api(line)?),
            "module" if words.len() == 2 => {
                modules.push(Module { name: words[1].clone(), api: None, messages: Vec::new() })
            }
            "request" | "response" | "data" => {
                let Some(module) = modules.last_mut() else { return problem("no api or module before") };
                let mut message = message_head(line, module)?;
                let mut fields = Vec::new();
                let range = message.versions;
                at = block(&lines, at, 2, range, &mut message, &mut fields)?;
                let top = Struct { name: message.name.clone(), versions: range, fields };
                message.structs.insert(0, top);
                module.messages.push(message);
            }
            "struct" if words.len() == 2 => {
                let Some(message) = modules.last_mut().and_then(|module| module.messages.last_mut()) else {
                    return problem("no message before");
                };
                let mut fields = Vec::new();
                let range = message.versions;
                at = block(&lines, at, 2, range, message, &mut fields)?;
                message.structs.push(Struct { name: words[1].clone(), versions: range, fields });
            }
            other => return Err((line.number, format!("unexpected {other:?}"))),
        }
    }
    Ok(modules)
}

struct Line {
    number: usize,
    indent: usize,
    words: Vec<String>,
    doc: String,
}

impl Line {
    fn new(number: usize, line: &str) -> Line {
        let (code, doc) = line.split_once(" # ").unwrap_or((line, ""));
        let indent = code.len() - code.trim_start().len();
        let words = code.split_whitespace().map(str::to_string).collect();
        Line { number, indent, words, doc: doc.trim().to_string() }
    }
}

/// `api NAME KEY [flexible N+]`
fn api(line: &Line) -> Result<Module, Problem> {
    let words = &line.words;
    let key =
        words.get(2).and_then(|word| word.parse().ok()).ok_or((line.number, "api NAME KEY".to_string()))?;
    let flexible_from = flexible(line, 3)?;
    Ok(Module {
        name: snake_case(&words[1]),
        api: Some(Api { name: words[1].clone(), key, flexible_from }),
        messages: Vec::new(),
    })
}

/// `request VERSIONS [flexible N+]`, `response …`, `data NAME …`
fn message_head(line: &Line, module: &Module) -> Result<Message, Problem> {
    let words = &line.words;
    let api_name = module.api.as_ref().map(|api| api.name.clone());
    let (kind, name, next) = match (words[0].as_str(), api_name) {
        ("request", Some(api)) => (Kind::Request, format!("{api}Request"), 1),
        ("response", Some(api)) => (Kind::Response, format!("{api}Response"), 1),
        ("data", _) if words.len() > 2 => (Kind::Data, words[1].clone(), 2),
        _ => return Err((line.number, "a request or response needs an api, data a name".to_string())),
    };
    let everything = Range { low: 0, high: i16::MAX };
    let versions = words.get(next).and_then(|word| range(word, everything));
    let versions = versions.ok_or((line.number, "expected the versions".to_string()))?;
    let flexible_from = flexible(line, next + 1)?;
    Ok(Message { name, kind, versions, flexible_from, structs: Vec::new() })
}

fn flexible(line: &Line, at: usize) -> Result<Option<i16>, Problem> {
    match line.words.get(at).map(String::as_str) {
        None => Ok(None),
        Some("flexible") => line
            .words
            .get(at + 1)
            .and_then(|word| word.strip_suffix('+'))
            .and_then(|word| word.parse().ok())
            .map(Some)
            .ok_or((line.number, "flexible N+".to_string())),
        Some(other) => Err((line.number, format!("unexpected {other:?}"))),
    }
}

/// Reads the fields at `indent`, which occur within `valid`, and returns the index of the first line after them.
fn block(
    lines: &[Line],
    mut at: usize,
    indent: usize,
    valid: Range,
    message: &mut Message,
    fields: &mut Vec<Field>,
) -> Result<usize, Problem> {
    while at < lines.len() && lines[at].indent >= indent {
        let line = &lines[at];
        if line.indent > indent {
            return Err((line.number, format!("expected {indent} spaces")));
        }
        let field = field(line, valid)?;
        at += 1;
        if lines.get(at).is_some_and(|next| next.indent > indent) {
            let Base::Struct(name) = field.base.clone() else {
                return Err((line.number, "only structs have fields".to_string()));
            };
            if message.structs.iter().any(|s| s.name == name) {
                return Err((line.number, format!("struct {name} is defined twice")));
            }
            let mut inner = Vec::new();
            at = block(lines, at, indent + 2, field.versions, message, &mut inner)?;
            message.structs.push(Struct { name, versions: field.versions, fields: inner });
        }
        fields.push(field);
    }
    Ok(at)
}

/// `NAME TYPE [VERSIONS] [tag N] [= DEFAULT] [ignorable] [classic] [few]`
fn field(line: &Line, valid: Range) -> Result<Field, Problem> {
    let problem = |text: String| (line.number, text);
    let words = &line.words;
    let [name, kind, attributes @ ..] = words.as_slice() else {
        return Err(problem("expected a name and a type".to_string()));
    };
    let (base, null) = kind.split_once('?').map_or((kind.as_str(), None), |(base, null)| (base, Some(null)));
    let element = base.strip_prefix('[').and_then(|base| base.strip_suffix(']'));
    let mut field = Field {
        name: name.clone(),
        base: base_type(element.unwrap_or(base)),
        array: element.is_some(),
        nullable: None,
        versions: valid,
        tag: None,
        default: None,
        ignorable: false,
        classic: false,
        few: false,
        doc: line.doc.clone(),
    };
    let mut words = attributes.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(problem(format!("{word} needs a value")));
        match word.as_str() {
            "tag" => field.tag = Some(value()?.parse().map_err(|_| problem("tag N".to_string()))?),
            "=" => field.default = Some(value()?.clone()),
            "ignorable" => field.ignorable = true,
            "classic" => field.classic = true,
            "few" if field.array => field.few = true,
            word => {
                let versions = range(word, valid).ok_or(problem(format!("unexpected {word:?}")))?;
                field.versions = versions;
            }
        }
    }
    field.nullable = match null {
        None => None,
        Some("") => Some(field.versions),
        Some(word) => Some(range(word, field.versions).ok_or(problem("TYPE?VERSIONS".to_string()))?),
    };
    if field.versions.low > field.versions.high {
        return Err(problem(format!("{name} occurs in no version")));
    }
    if field.null_default() && field.nullable.is_none() {
        return Err(problem(format!("{name} cannot be null")));
    }
    Ok(field)
}

/// `N`, `N+` or `N-M`, cut to `valid`.
fn range(word: &str, valid: Range) -> Option<Range> {
    let (low, high) = match word.strip_suffix('+') {
        Some(low) => (low.parse().ok()?, valid.high),
        None => match word.split_once('-') {
            Some((low, high)) => (low.parse().ok()?, high.parse().ok()?),
            None => (word.parse().ok()?, word.parse().ok()?),
        },
    };
    Some(Range { low, high }.intersect(valid))
}

fn base_type(word: &str) -> Base {
    match word {
        "bool" => Base::Bool,
        "int8" => Base::Int8,
        "int16" => Base::Int16,
        "uint16" => Base::Uint16,
        "int32" => Base::Int32,
        "int64" => Base::Int64,
        "float64" => Base::Float64,
        "uuid" => Base::Uuid,
        "string" => Base::String,
        "bytes" => Base::Bytes,
        "records" => Base::Records,
        name => Base::Struct(name.to_string()),
    }
}

/// `DescribeConfigs` to `describe_configs`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
