//! All messages, generated from `protocol/schema`: one module per API, its request and response re-exported here.

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
