//! Any bytes for any codec: an error or at most the limit, and what we compress comes back.

#![no_main]

use protocol::compression::{Compression, compress, decompress_bounded};

const LIMIT: usize = 1 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((id, bytes)) = bytes.split_first() else { return };
    let codec = Compression::from_id(id % 5).expect("ids 0 to 4 are defined");
    if let Ok(plain) = decompress_bounded(codec, bytes, LIMIT) {
        assert!(plain.len() <= LIMIT);
    }
    let mut compressed = Vec::new();
    compress(codec, None, bytes, &mut compressed).expect("the default level works");
    assert_eq!(decompress_bounded(codec, &compressed, bytes.len()).as_deref(), Ok(bytes));
});
