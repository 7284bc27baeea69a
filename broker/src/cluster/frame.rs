//! Frames: what goes over a link once it is open.
//!
//! ```text
//! frame := length u32 | CRC-32C of the payload u32 | payload
//! ```
//! Integers are big-endian. The length is checked against the limit of the link's purpose before anything is allocated, and memory is taken as bytes
//! come in: announcing much and sending nothing takes nothing.

use bytes::Bytes;

use super::{LinkError, Purpose};

/// Length and checksum.
pub const HEADER_BYTES: usize = 8;

/// A metadata snapshot travels as one message.
const QUORUM_FRAME_BYTES_MAX: usize = 512 << 20;
/// Room for what a request is wrapped in.
const CONTROL_EXTRA_BYTES: usize = 1 << 10;
/// A batch as large as a request may be, and as much again for everything around it.
const REPLICATION_SHARE: usize = 2;

/// The longest payload that is taken; `request_bytes_max` is `socket.request.max.bytes`.
pub fn payload_bytes_max(purpose: Purpose, request_bytes_max: usize) -> usize {
    match purpose {
        Purpose::Quorum => QUORUM_FRAME_BYTES_MAX,
        Purpose::Control => request_bytes_max + CONTROL_EXTRA_BYTES,
        Purpose::Replication => request_bytes_max * REPLICATION_SHARE,
    }
}

/// What stands in front of a payload of these segments.
pub fn header(segments: &[Bytes]) -> [u8; HEADER_BYTES] {
    let length: usize = segments.iter().map(Bytes::len).sum();
    let length = u32::try_from(length).expect("a payload is far below 4 GiB");
    let checksum = segments.iter().fold(0, |checksum, segment| crc32c::crc32c_append(checksum, segment));
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Length of the payload.
    pub length: usize,
    checksum: u32,
}

impl Announced {
    /// Reads a header; a payload of more than `limit` bytes is refused.
    pub fn read(header: &[u8; HEADER_BYTES], limit: usize) -> Result<Announced, LinkError> {
        let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let length = number(0) as usize;
        if length > limit {
            return Err(LinkError::Garbage(format!("a frame of {length} bytes; allowed are {limit}")));
        }
        Ok(Announced { length, checksum: number(4) })
    }

    /// Checks the payload.
    pub fn check(&self, payload: &[u8]) -> Result<(), LinkError> {
        match crc32c::crc32c(payload) == self.checksum {
            true => Ok(()),
            false => Err(LinkError::Garbage("a frame's checksum is wrong".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_covers_all_segments_and_an_oversized_length_is_refused() {
        let segments = [Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")];
        let header = header(&segments);
        let announced = Announced::read(&header, 5).unwrap();
        assert_eq!(announced.length, 5);
        assert!(announced.check(b"abcde").is_ok());
        assert!(announced.check(b"abcdf").is_err());
        assert!(Announced::read(&header, 4).is_err());
    }
}
