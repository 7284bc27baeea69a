//! A small durable log of opaque records.
