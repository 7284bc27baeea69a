//! Any bytes as a produce request's records: validated, iterated, placed.

#![no_main]

#[path = "../../tests/support/exercise_batch.rs"]
mod exercise_batch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| exercise_batch::exercise_batch(bytes));
