//! The consumer protocol of KIP-848.

/// A group of the consumer protocol.
#[derive(Debug)]
pub struct ConsumerGroup {}
