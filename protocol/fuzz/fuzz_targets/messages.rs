//! Decodes every message type: two bytes choose the message, one its version, the rest is the frame.
//!
//! Nothing may panic, and what was read must be written in bytes that read and write the same from then on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Decoder, Encoder, Message, frame, messages};

fuzz_target!(|input: &[u8]| {
    let _ = frame::decode_request_header(input);
    if let [high, low, version, frame @ ..] = input {
        decode_any(u16::from_be_bytes([*high, *low]), i16::from(*version), frame);
    }
});

macro_rules! dispatch {
    ($($kind:tt, $module:ident, $message:ident, $key:literal, $low:literal, $high:literal;)*) => {
        fn decode_any(choice: u16, version: i16, frame: &[u8]) {
            let count = [$(stringify!($message)),*].len() as u16;
            let mut index = choice % count;
            $(
                if index == 0 {
                    let versions = $high - $low + 1;
                    let version = $low + version % versions;
                    let Some(message) = read::<messages::$module::$message>(frame, version) else { return };
                    let once = write(&message, version);
                    let again = read::<messages::$module::$message>(&once, version).expect("our own bytes");
                    assert_eq!(write(&again, version), once);
                    return;
                }
                index = index.wrapping_sub(1);
            )*
            let _ = index;
        }
    };
}

protocol::for_each_message!(dispatch);

fn read<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> Option<M> {
    M::decode(&mut Decoder::new(frame), version).ok()
}

fn write<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<u8> {
    let mut e = Encoder::new();
    message.encode(&mut e, version).expect("what was read can be written");
    e.finish_contiguous().to_vec()
}
