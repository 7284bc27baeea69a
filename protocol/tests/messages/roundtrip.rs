//! Every message in every version through our own codec, also those that no oracle knows.

use crate::gen_values::{Gen, Generate};
use protocol::{DecodeError, Decoder, EncodeError, Encoder, Message, messages};

macro_rules! round_trips {
    ($($kind:tt, $module:ident, $message:ident, $key:literal, $low:literal, $high:literal;)*) => {
        #[test]
        fn what_is_written_is_read_again_in_every_version() {
            $(for version in messages::$module::$message::VERSIONS {
                for seed in 0..10 {
                    let value: messages::$module::$message = Generate::generate(&mut Gen::new(seed), version);
                    let mut e = Encoder::new();
                    value.encode(&mut e, version).expect("a value valid in the version");
                    let len = e.len();
                    let segments = e.finish();
                    assert!(segments.iter().all(|segment| !segment.is_empty()));
                    let bytes = segments.concat();
                    assert_eq!(bytes.len(), len);
                    let mut d = Decoder::new(&bytes);
                    let read = messages::$module::$message::decode(&mut d, version);
                    assert_eq!(read.as_ref(), Ok(&value), "{} v{version} seed {seed}", stringify!($message));
                    d.finish().expect("nothing left");
                }
            })*
        }

        #[test]
        fn a_frame_cut_anywhere_is_refused() {
            $(for version in messages::$module::$message::VERSIONS {
                let value: messages::$module::$message = Generate::generate(&mut Gen::new(7), version);
                let mut e = Encoder::new();
                value.encode(&mut e, version).expect("a value valid in the version");
                let bytes = e.finish_contiguous();
                for cut in 0..bytes.len().min(400) {
                    let cut = messages::$module::$message::decode(&mut Decoder::new(&bytes[..cut]), version);
                    assert!(cut.is_err(), "{} v{version}", stringify!($message));
                }
            })*
        }

        #[test]
        fn versions_beyond_the_schema_are_refused() {
            $(for version in [$low - 1, $high + 1] {
                let read = messages::$module::$message::decode(&mut Decoder::new(&[0; 64]), version);
                assert!(matches!(read, Err(DecodeError::UnsupportedVersion { .. })), "{}", stringify!($message));
                let mut e = Encoder::new();
                let written = messages::$module::$message::default().encode(&mut e, version);
                assert!(matches!(written, Err(EncodeError::UnsupportedVersion { .. })), "{}", stringify!($message));
            })*
        }
    };
}

protocol::for_each_message!(round_trips);
