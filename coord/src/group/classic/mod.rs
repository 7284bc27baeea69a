//! The classic protocol.

/// A group of the classic protocol.
#[derive(Debug)]
pub struct ClassicGroup {}
