//! Kafka's wire protocol.
//!
//! - [`messages`]: the structs of all requests, responses and coordinator records, generated from `protocol/schema`;
//! - [`wire`]: the primitive types, the bounded [`Decoder`] and the [`Encoder`] that shares large records;
//! - [`frame`]: whole frames with length prefix and [`header`];
//! - [`api`]: API keys and header versions;
//! - [`error`]: Kafka's error codes;
//! - [`client`]: what clients make of Metadata, and ask in the same way;
//! - [`partitioner`]: which partition a key belongs to;
//! - [`records`]: record batches, looked into, checked and built; [`compression`]: their codecs;
//! - [`uuid_text`](mod@uuid_text): ids as Kafka writes them.

pub mod api;
pub mod client;
pub mod compression;
pub mod error;
pub mod frame;
pub mod header;
pub mod messages;
pub mod partitioner;
pub mod records;
pub mod uuid_text;
pub mod wire;

pub use api::ApiKey;
pub use error::ErrorCode;
pub use uuid_text::{parse_uuid_text, uuid_text};
pub use wire::{DecodeError, Decoder, EncodeError, Encoder, Message, Records, Request, TaggedFields};
