//! Generates the message types of `protocol::messages` from the tables in `schema/*.txt`.
//!
//! Output, all in `OUT_DIR`:
//! - `messages.rs`: one module per API with its structs and codecs;
//! - `api_key.rs`: the [`ApiKey`] enum and its version tables;
//! - `generate.rs`: random values of every message, included by the tests only.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_decode.rs"]
mod emit_decode;
#[path = "build/emit_encode.rs"]
mod emit_encode;
#[path = "build/emit_generate.rs"]
mod emit_generate;
#[path = "build/model.rs"]
mod model;
#[path = "build/parse.rs"]
mod parse;

use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");

    let mut paths: Vec<_> = fs::read_dir("schema")
        .expect("schema/ is part of the crate")
        .map(|entry| entry.expect("readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();

    let mut modules = Vec::new();
    for path in &paths {
        let text = fs::read_to_string(path).expect("readable schema file");
        match parse::parse(&text) {
            Ok(parsed) => modules.extend(parsed),
            Err((line, problem)) => panic!("{}:{line}: {problem}", path.display()),
        }
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));

    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let write =
        |name: &str, text: String| fs::write(Path::new(&out).join(name), text).expect("writable OUT_DIR");
    write("messages.rs", emit::messages(&modules));
    write("api_key.rs", emit::api_key(&modules));
    write("generate.rs", emit_generate::generators(&modules));
}
