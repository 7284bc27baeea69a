//! One record's fields, passed over without looking at the payload.
//!
//! ```text
//! record = length varint, attributes i8, timestamp delta varlong, offset delta varint, key, value, header count varint, header*
//! header = key (never null), value          key, value = length varint (-1: null), bytes
//! ```

use super::{
    error::RecordFault,
    input::{Input, Stop},
};

/// What validation wants to know of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outline {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Passes over one record and checks that its fields fill exactly the length that it declares.
#[inline]
pub(super) fn walk_record(input: &mut impl Input) -> Result<Outline, Stop> {
    let length = u64::try_from(input.varint()?).map_err(|_| RecordFault::Size)?;
    let end = input.position() + length;
    input.byte()?;
    let timestamp_delta = input.varlong()?;
    let offset_delta = input.varint()?;
    let has_key = skip_nullable(input, end)?;
    skip_nullable(input, end)?;
    let headers = input.varint()?;
    if headers != 0 {
        walk_headers(input, headers, end)?;
    }
    if input.position() != end {
        return Err(RecordFault::Size.into());
    }
    Ok(Outline { timestamp_delta, offset_delta, has_key })
}

fn walk_headers(input: &mut impl Input, count: i32, end: u64) -> Result<(), Stop> {
    // A header takes at least two bytes.
    let room = end.saturating_sub(input.position()) / 2;
    if count < 0 || count as u64 > room {
        return Err(RecordFault::HeaderCount.into());
    }
    for _ in 0..count {
        let key_length = input.varint()?;
        skip_within(input, usize::try_from(key_length).map_err(|_| RecordFault::NegativeLength)?, end)?;
        skip_nullable(input, end)?;
    }
    Ok(())
}

/// Passes over a length and that many bytes; false for null.
#[inline]
fn skip_nullable(input: &mut impl Input, end: u64) -> Result<bool, Stop> {
    match input.varint()? {
        -1 => Ok(false),
        length if length < 0 => Err(RecordFault::NegativeLength.into()),
        length => skip_within(input, length as usize, end).map(|()| true),
    }
}

#[inline]
fn skip_within(input: &mut impl Input, len: usize, end: u64) -> Result<(), Stop> {
    if input.position() + len as u64 > end {
        return Err(RecordFault::Size.into());
    }
    input.skip(len)
}
