//! Splits what a connection receives into frames: a length of four bytes, then that many bytes.
//!
//! Small frames are received into a buffer that all connections of the shard share. Whole produce requests stay there: they are done with it after their first poll
//! ([`super::receive_buffers`]). Of others, which may wait for long, those that came together are copied out together; a frame of which only a part has come gets
//! its final buffer at once and the rest is received straight into it. So a silent connection holds no buffer, a burst of small requests
//! costs one system call, and large requests are not copied. Every frame that does not stay is charged to the memory budget until its last slice is dropped;
//! a large one is charged as its bytes come in, so that announcing much and sending nothing takes nothing from others. Requests that have come in part do not wait for
//! each other: one at a time may go beyond the budget.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;
use protocol::ApiKey;

use super::receive_buffers::ReceiveBuffer;
use crate::budget::{Budget, Permit, charged};

/// Size of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;
/// The smallest request: key, version and correlation id.
const FRAME_BYTES_MIN: usize = 8;
/// What a frame costs beyond its bytes.
const FRAME_OVERHEAD_BYTES: usize = 256;
/// A frame larger than this is charged in steps.
const CHARGE_STEP_BYTES: usize = 256 * 1024;

/// Why a connection's input cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// The length is negative, too small for a request, or above `socket.request.max.bytes`.
    Length {
        /// The four bytes as received.
        bytes: [u8; 4],
        /// The largest length that is accepted.
        max: usize,
    },
    /// There is no memory for a frame of this size.
    NoMemory {
        /// The announced length.
        length: usize,
    },
}

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbage::Length {
                bytes: [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'],
                ..
            } => f.write_str("this is HTTP, not the Kafka protocol"),
            Garbage::Length { bytes: [0x16, 0x03, _, _], .. } => {
                f.write_str("this is TLS, and the listener is plaintext")
            }
            Garbage::Length { bytes, max } => write!(
                f,
                "a request of {} bytes is announced; allowed are {FRAME_BYTES_MIN} to {max} (socket.request.max.bytes)",
                i32::from_be_bytes(*bytes)
            ),
            Garbage::NoMemory { length } => write!(f, "there is no memory for a request of {length} bytes"),
        }
    }
}

/// What can be done next.
pub enum Step {
    /// A whole frame, without its length.
    Frame(Bytes),
    /// The input is used up.
    NeedInput,
    /// The budget is short: await this, hand the permit to [`FrameReader::grant`], go on.
    NeedBudget(BoxFuture<'static, Permit>),
}

/// What has been received and not looked at yet.
#[derive(Default)]
pub struct Input<'a> {
    bytes: &'a [u8],
    /// Where it lies, if frames may stay there.
    buffer: Option<&'a ReceiveBuffer>,
    lent: Option<Bytes>,
}

impl<'a> Input<'a> {
    /// Bytes that frames have to be copied from.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, ..Input::default() }
    }

    /// The first `filled` bytes of `buffer`, in which frames may stay.
    pub fn lent(buffer: &'a ReceiveBuffer, filled: usize) -> Input<'a> {
        Input { buffer: Some(buffer), ..Input::new(&buffer.as_ref()[..filled]) }
    }

    /// Whether all of it is used up.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(bytes);
        self.bytes = rest;
        taken
    }

    /// The frame at the front, if it is one that stays where it lies.
    fn take_staying(&mut self, length: usize) -> Option<Bytes> {
        let buffer = self.buffer.filter(|_| stays(self.bytes, length))?;
        let frame = &self.take(LENGTH_BYTES + length)[LENGTH_BYTES..];
        Some(self.lent.get_or_insert_with(|| buffer.lend()).slice_ref(frame))
    }
}

/// Whether the frame at the front of `bytes` is whole, and one that is done with its bytes after its first poll.
fn stays(bytes: &[u8], length: usize) -> bool {
    const PRODUCE: [u8; 2] = (ApiKey::Produce as i16).to_be_bytes();
    bytes.len() >= LENGTH_BYTES + length && bytes[LENGTH_BYTES..].starts_with(&PRODUCE)
}

/// A frame of which a part has come.
struct Partial {
    buffer: Vec<u8>,
    length: usize,
    charged: usize,
    permit: Permit,
}

/// One connection's input between receiving and dispatching.
#[derive(Default)]
pub struct FrameReader {
    /// Input that has not been looked at, or an incomplete length.
    carry: Vec<u8>,
    partial: Option<Box<Partial>>,
    /// Frames that came whole, with their lengths, in one piece of memory.
    whole: Bytes,
    granted: Option<Permit>,
    copied_bytes: u64,
}

impl FrameReader {
    /// Whether a frame has begun and is not complete.
    pub fn is_inside_frame(&self) -> bool {
        self.partial.is_some() || !self.carry.is_empty()
    }

    /// Whether [`FrameReader::step`] may find something without further input.
    pub fn has_carry(&self) -> bool {
        self.has_frame()
            || self.carry.len() >= LENGTH_BYTES
            || (self.partial.is_some() && !self.carry.is_empty())
    }

    /// Whether there is a whole frame that no step has given out.
    pub fn has_frame(&self) -> bool {
        !self.whole.is_empty()
    }

    /// Input that was kept, to be put in front of what comes next.
    pub fn take_carry(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }

    /// Keeps input for later.
    pub fn keep(&mut self, input: &mut Input<'_>) {
        assert!(self.carry.is_empty(), "kept input is taken before more is kept");
        self.carry = input.take(input.bytes.len()).to_vec();
        self.copied_bytes += self.carry.len() as u64;
    }

    /// How much has been copied since this was asked last.
    pub fn take_copied_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.copied_bytes)
    }

    /// Hands over the permit that was asked for.
    pub fn grant(&mut self, permit: Permit) {
        self.granted = Some(permit);
    }

    /// The buffer into which the rest of a partly received frame can be received directly, and how much of it may be received now (which is
    /// charged already); `None` if there is no such frame.
    pub fn direct(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let partial = self.partial.as_deref_mut()?;
        assert!(self.carry.is_empty(), "kept input comes first");
        let allowed = partial.charged - partial.buffer.len();
        (allowed > 0).then_some((&mut partial.buffer, allowed))
    }

    /// Goes on with `input`, of which it removes what it has used.
    pub fn step(
        &mut self,
        input: &mut Input<'_>,
        frame_bytes_max: usize,
        budget: &Budget,
    ) -> Result<Step, Garbage> {
        if self.partial.is_some() {
            return Ok(self.continue_partial(input, budget));
        }
        if let Some(frame) = self.next_whole() {
            return Ok(Step::Frame(frame));
        }
        let Some((head, rest)) = input.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            self.keep(input);
            return Ok(Step::NeedInput);
        };
        let length = sound_length(*head, frame_bytes_max)
            .ok_or(Garbage::Length { bytes: *head, max: frame_bytes_max })?;
        if let Some(frame) = input.take_staying(length) {
            return Ok(Step::Frame(frame));
        }
        let whole = whole_frames(input, frame_bytes_max);
        let first_charge = match whole.bytes {
            0 => length.min(CHARGE_STEP_BYTES.max(rest.len())),
            bytes => bytes,
        };
        let charge = first_charge + whole.frames.max(1) * FRAME_OVERHEAD_BYTES;
        let permit = match self.granted.take().or_else(|| budget.try_acquire(charge)) {
            Some(permit) => permit,
            None => {
                let budget = budget.clone();
                return Ok(Step::NeedBudget(Box::pin(async move { budget.acquire(charge).await })));
            }
        };
        if whole.frames > 0 {
            self.copied_bytes += whole.bytes as u64;
            self.whole = charged(input.take(whole.bytes).to_vec(), permit);
            return Ok(Step::Frame(self.next_whole().expect("there is one")));
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(length).map_err(|_| Garbage::NoMemory { length })?;
        buffer.extend_from_slice(rest);
        self.copied_bytes += rest.len() as u64;
        *input = Input::default();
        self.partial = Some(Box::new(Partial { buffer, length, charged: first_charge, permit }));
        Ok(Step::NeedInput)
    }

    fn next_whole(&mut self) -> Option<Bytes> {
        let head = *self.whole.first_chunk::<LENGTH_BYTES>()?;
        let frame = self.whole.split_to(LENGTH_BYTES + i32::from_be_bytes(head) as usize);
        Some(frame.slice(LENGTH_BYTES..))
    }

    fn continue_partial(&mut self, input: &mut Input<'_>, budget: &Budget) -> Step {
        let partial = self.partial.as_deref_mut().expect("looked at by the caller");
        if let Some(permit) = self.granted.take() {
            partial.permit.merge(permit);
            partial.charged = next_charge(partial);
        }
        let wanted = partial.length - partial.buffer.len();
        let taken = input.bytes.len().min(wanted).min(partial.charged - partial.buffer.len());
        partial.buffer.extend_from_slice(input.take(taken));
        self.copied_bytes += taken as u64;
        if partial.buffer.len() == partial.length {
            let partial = *self.partial.take().expect("looked at above");
            return Step::Frame(charged(partial.buffer, partial.permit));
        }
        if partial.buffer.len() < partial.charged {
            return Step::NeedInput;
        }
        let more = next_charge(partial) - partial.charged;
        if !partial.permit.is_overdrawn() {
            match budget.try_acquire(more) {
                Some(permit) => partial.permit.merge(permit),
                None => {
                    let budget = budget.clone();
                    return Step::NeedBudget(Box::pin(async move { budget.acquire_more(more).await }));
                }
            }
        }
        partial.charged += more;
        if input.is_empty() { Step::NeedInput } else { self.continue_partial(input, budget) }
    }
}

/// Frames that are there from their first to their last byte.
#[derive(Default)]
struct WholeFrames {
    frames: usize,
    /// With their lengths.
    bytes: usize,
}

/// The sound frames at the beginning of `input`, up to one that stays where it lies.
fn whole_frames(input: &Input<'_>, frame_bytes_max: usize) -> WholeFrames {
    let mut whole = WholeFrames::default();
    while let at = &input.bytes[whole.bytes..]
        && let Some((head, rest)) = at.split_first_chunk::<LENGTH_BYTES>()
        && let Some(length) = sound_length(*head, frame_bytes_max)
        && length <= rest.len()
        && !(input.buffer.is_some() && stays(at, length))
    {
        whole.frames += 1;
        whole.bytes += LENGTH_BYTES + length;
    }
    whole
}

/// The length of a frame, if a request may have it.
fn sound_length(head: [u8; LENGTH_BYTES], frame_bytes_max: usize) -> Option<usize> {
    let length = usize::try_from(i32::from_be_bytes(head)).ok()?;
    (FRAME_BYTES_MIN..=frame_bytes_max).contains(&length).then_some(length)
}

/// Doubles, so that even the largest frame takes few steps.
fn next_charge(partial: &Partial) -> usize {
    partial.length.min(partial.charged * 2)
}

#[cfg(test)]
mod tests {
    use super::super::receive_buffers::ReceiveBuffers;
    use super::*;
    use futures::FutureExt;

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes(), body].concat()
    }

    /// Feeds `wire` in pieces of `piece` bytes and collects the frames.
    fn split(wire: &[u8], piece: usize, budget: &Budget) -> Result<Vec<Bytes>, Garbage> {
        let mut reader = FrameReader::default();
        let mut frames = Vec::new();
        for chunk in wire.chunks(piece) {
            let mut input = reader.take_carry();
            input.extend_from_slice(chunk);
            let mut input = Input::new(&input);
            loop {
                match reader.step(&mut input, 1 << 20, budget)? {
                    Step::Frame(frame) => frames.push(frame),
                    Step::NeedInput => break,
                    Step::NeedBudget(permit) => reader.grant(permit.now_or_never().expect("enough budget")),
                }
            }
            assert!(input.is_empty());
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_whole_however_the_input_is_cut() {
        let bodies: Vec<Vec<u8>> =
            [8, 9, 100, 4096, 600_000, 8].iter().map(|n| (0..*n).map(|b| b as u8).collect()).collect();
        let wire: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for piece in [1, 3, 7, 1000, 65_536, wire.len()] {
            let budget = Budget::new(1 << 30);
            assert_eq!(split(&wire, piece, &budget).expect("valid"), bodies, "pieces of {piece}");
            assert_eq!(budget.used_bytes(), 0, "all slices are dropped");
        }
    }

    #[test]
    fn frames_that_come_together_are_charged_together_and_what_follows_does_not_delay_them() {
        let budget = Budget::new(1 << 30);
        let mut reader = FrameReader::default();
        let wire = [frame(&[1; 8]), frame(&[2; 20]), frame(&[3; 4])].concat();
        let mut input = Input::new(&wire);
        let mut step = || reader.step(&mut input, 1 << 20, &budget);
        let (Ok(Step::Frame(first)), Ok(Step::Frame(second))) = (step(), step()) else { panic!("whole") };
        assert_eq!((&first[..], &second[..]), (&[1; 8][..], &[2; 20][..]));
        assert!(matches!(step(), Err(Garbage::Length { bytes: [0, 0, 0, 4], .. })));
        let both = (2 * LENGTH_BYTES + 8 + 20 + 2 * FRAME_OVERHEAD_BYTES) as u64;
        assert_eq!(budget.used_bytes(), both);
        drop(first);
        assert_eq!(budget.used_bytes(), both, "they share their memory");
        drop(second);
        assert_eq!(budget.used_bytes(), 0, "though the reader goes on");
    }

    #[test]
    fn produce_requests_stay_where_they_were_received_and_others_do_not() {
        let budget = Budget::new(1 << 30);
        let bodies = [[0; 8], [0; 8], [1; 8], [2; 8], [0; 8]];
        let mut wire: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        wire.extend(&frame(&[0; 8])[..10]);
        let mut buffer = ReceiveBuffers::default().take();
        buffer.writable().expect("nobody reads from it")[..wire.len()].copy_from_slice(&wire);
        let mut input = Input::lent(&buffer, wire.len());
        let mut reader = FrameReader::default();
        let frames: Vec<Bytes> = bodies
            .iter()
            .map(|_| match reader.step(&mut input, 1 << 20, &budget) {
                Ok(Step::Frame(frame)) => frame,
                _ => panic!("it is whole"),
            })
            .collect();
        assert_eq!(frames, bodies.map(|body| body.to_vec()));
        let stays = |frame: &Bytes| buffer.as_ref().as_ptr_range().contains(&frame.as_ptr());
        assert_eq!(frames.iter().map(stays).collect::<Vec<_>>(), [true, true, false, false, true]);
        assert_eq!(budget.used_bytes() as usize, 2 * (LENGTH_BYTES + 8 + FRAME_OVERHEAD_BYTES));
        // Of the last one a part is missing.
        assert!(matches!(reader.step(&mut input, 1 << 20, &budget), Ok(Step::NeedInput)));
        assert!(input.is_empty() && reader.is_inside_frame());
        assert_eq!(reader.take_copied_bytes() as usize, 2 * (LENGTH_BYTES + 8) + 6);
        drop((input, frames));
        assert!(buffer.writable().is_some(), "it can be received into again");
    }

    #[test]
    fn lengths_that_no_request_can_have_are_garbage() {
        let budget = Budget::new(1 << 30);
        for head in
            [[0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0, 0, 0, 7], [0, 0x10, 0, 1], *b"GET ", [0x16, 3, 1, 2]]
        {
            assert_eq!(split(&head, 4, &budget), Err(Garbage::Length { bytes: head, max: 1 << 20 }));
        }
        assert_eq!(
            Garbage::Length { bytes: *b"GET ", max: 1 }.to_string(),
            "this is HTTP, not the Kafka protocol"
        );
    }

    #[test]
    fn a_frame_that_is_announced_but_not_sent_takes_little_of_the_budget() {
        let budget = Budget::new(1 << 30);
        let mut reader = FrameReader::default();
        let wire = (1i32 << 20).to_be_bytes();
        assert!(matches!(reader.step(&mut Input::new(&wire), 1 << 20, &budget), Ok(Step::NeedInput)));
        assert_eq!(budget.used_bytes(), (CHARGE_STEP_BYTES + FRAME_OVERHEAD_BYTES) as u64);
    }

    #[test]
    fn a_frame_waits_for_the_budget_and_then_goes_on() {
        let budget = Budget::new(1000);
        let others = budget.try_acquire(1000).expect("free");
        let wire = frame(&[7; 100]);
        let mut input = Input::new(&wire);
        let mut reader = FrameReader::default();
        let Ok(Step::NeedBudget(mut permit)) = reader.step(&mut input, 1 << 20, &budget) else {
            panic!("must wait")
        };
        assert!(permit.as_mut().now_or_never().is_none());
        assert_eq!(input.bytes.len(), wire.len(), "nothing is used up while it waits");
        drop(others);
        reader.grant(permit.now_or_never().expect("free again"));
        let Ok(Step::Frame(got)) = reader.step(&mut input, 1 << 20, &budget) else { panic!("must be whole") };
        assert_eq!(got, &[7; 100][..]);
    }
}
