//! Kafka's wire protocol.

pub mod compression;
pub mod records;
