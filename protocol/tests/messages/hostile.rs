//! Bytes that no honest sender would send: decoding them must not panic and must allocate little.

use crate::gen_values::{Gen, Generate};
use protocol::{Decoder, Encoder, Message, messages, wire::MEMORY_FACTOR};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counter any more; nobody asks for it then.
    let _ = ALLOCATED.try_with(|allocated| allocated.set(allocated.get() + bytes));
}

// SAFETY: every call is passed on unchanged to the system allocator; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of GlobalAlloc::alloc.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of GlobalAlloc::dealloc; the memory came from System.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller keeps the contract of GlobalAlloc::realloc; the memory came from System.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Decodes a frame and checks that everything allocated on the way stays within the documented bound.
/// What can be read must be written again, in bytes that are stable from then on.
fn attack<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> Option<M> {
    let before = ALLOCATED.get();
    let message = M::decode(&mut Decoder::new(frame), version);
    let allocated = ALLOCATED.get() - before;
    let allowed = MEMORY_FACTOR * frame.len();
    assert!(allocated <= allowed, "{} v{version}: {allocated} bytes for a frame of {}", M::NAME, frame.len());
    message.ok()
}

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<u8> {
    let mut e = Encoder::new();
    message.encode(&mut e, version).unwrap_or_else(|problem| panic!("{} v{version}: {problem}", M::NAME));
    e.finish_contiguous().to_vec()
}

/// Lengths that promise far more than a frame holds: 2^31-1 as four bytes and as varints with and without null.
const HUGE: [&[u8]; 5] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x00, 0x0f, 0xff, 0xff],
];

macro_rules! attacks {
    ($($kind:tt, $module:ident, $message:ident, $key:literal, $low:literal, $high:literal;)*) => {
        #[test]
        fn a_huge_length_anywhere_in_any_message_allocates_next_to_nothing() {
            $(for version in messages::$module::$message::VERSIONS {
                let value: messages::$module::$message = Generate::generate(&mut Gen::new(3), version);
                let honest = encode(&value, version);
                let step = 1 + honest.len() / 200;
                for position in (0..=honest.len()).step_by(step) {
                    for huge in HUGE {
                        let mut frame = honest[..position].to_vec();
                        frame.extend_from_slice(huge);
                        frame.extend_from_slice(&honest[(position + huge.len()).min(honest.len())..]);
                        attack::<messages::$module::$message>(&frame, version);
                    }
                }
            })*
        }

        #[test]
        fn a_frame_of_one_repeated_byte_stays_within_the_bound() {
            $(for version in messages::$module::$message::VERSIONS {
                for byte in [0, 1, 2, 3, 0x0f, 0x7f, 0x80, 0xff] {
                    attack::<messages::$module::$message>(&[byte; 3000], version);
                }
            })*
        }

        #[test]
        fn random_and_damaged_frames_never_panic_and_what_they_mean_survives() {
            $(for version in messages::$module::$message::VERSIONS {
                let mut g = Gen::new(version as u64);
                for round in 0..60u64 {
                    let mut frame = if round % 3 == 0 {
                        (0..g.below(300)).map(|_| g.bits() as u8).collect()
                    } else {
                        let value: messages::$module::$message = Generate::generate(&mut g, version);
                        encode(&value, version)
                    };
                    for _ in 0..round % 4 {
                        if !frame.is_empty() {
                            let position = g.below(frame.len() as u64) as usize;
                            frame[position] ^= 1 << g.below(8);
                        }
                    }
                    if let Some(read) = attack::<messages::$module::$message>(&frame, version) {
                        let once = encode(&read, version);
                        let again = attack::<messages::$module::$message>(&once, version).expect("our own bytes");
                        assert_eq!(encode(&again, version), once, "{} v{version}", stringify!($message));
                    }
                }
            })*
        }
    };
}

protocol::for_each_message!(attacks);

#[test]
fn the_allocation_counter_counts() {
    let before = ALLOCATED.get();
    drop(std::hint::black_box(vec![0u8; 12345]));
    assert!(ALLOCATED.get() - before >= 12345);
}
