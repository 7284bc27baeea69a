//! Tests of the generated codecs, written once for all messages.

mod gen_values;
mod golden;
mod hostile;
mod oracle;
mod roundtrip;
