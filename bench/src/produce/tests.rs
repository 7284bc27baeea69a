//! Runs against a fake broker.
