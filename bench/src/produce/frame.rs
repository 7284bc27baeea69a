//! Produce requests built in one reused buffer.
//!
//! Versions 9 to 12 of the request have one layout (flexible, topics by name); it is written here by hand so that batches are built
//! where they are sent from. A test reads it back with the codec.

use crate::payload::BATCH_HEADER_BYTES;

/// Kafka's API key of Produce.
const PRODUCE: i16 = 0;

/// The versions of Produce with this layout.
pub const VERSIONS: std::ops::RangeInclusive<i16> = 9..=12;

/// What stands in every produce request of a run.
#[derive(Debug, Clone)]
pub struct RequestFields {
    /// Version of the request, one of [`VERSIONS`].
    pub version: i16,
    /// Name that the client gives itself.
    pub client_id: String,
    /// 0, 1 or -1 (all).
    pub acks: i16,
    /// How long the broker may take.
    pub timeout_ms: i32,
    /// Name of the topic.
    pub topic: String,
}

/// A request buffer that remembers where batches lie in it, so that a batch of the same length in the same place is only patched.
#[derive(Debug, Default)]
pub struct Frame {
    bytes: Vec<u8>,
    len: usize,
    /// Start and record count of the uncompressed batches of the request before this one.
    known: Vec<(usize, u32)>,
    /// How many batches of the current request are written.
    written: usize,
}

impl Frame {
    /// Starts a request with `batches` batches.
    pub fn begin(&mut self, fields: &RequestFields, correlation_id: i32, batches: usize) {
        self.len = 0;
        self.written = 0;
        self.put(&[0; 4]);
        self.put(&PRODUCE.to_be_bytes());
        self.put(&fields.version.to_be_bytes());
        self.put(&correlation_id.to_be_bytes());
        self.put(&(fields.client_id.len() as i16).to_be_bytes());
        self.put(fields.client_id.as_bytes());
        self.put(&[0]); // tagged fields of the header
        self.put(&[0]); // no transactional id
        self.put(&fields.acks.to_be_bytes());
        self.put(&fields.timeout_ms.to_be_bytes());
        self.put_uvarint(2); // one topic
        self.put_uvarint(fields.topic.len() + 1);
        self.put(fields.topic.as_bytes());
        self.put_uvarint(batches + 1);
    }

    /// Adds an uncompressed batch of `len` bytes and `count` records, which `write` fills in. `write` is told whether the records
    /// of an earlier batch of the same length are in place already.
    pub fn batch(&mut self, partition: i32, len: usize, count: u32, write: impl FnOnce(&mut [u8], bool)) {
        self.put(&partition.to_be_bytes());
        self.put_uvarint(len + 1);
        let start = self.len;
        self.reserve(len);
        let place = (start, count);
        let patch = self.known.get(self.written) == Some(&place);
        write(&mut self.bytes[start..start + len], patch);
        self.known.truncate(if patch { self.known.len() } else { self.written });
        if !patch {
            self.known.push(place);
        }
        self.len += len;
        self.written += 1;
        self.put(&[0]); // tagged fields of the partition
    }

    /// Adds a batch whose records are compressed: `payload` follows a header that `write` fills in, given the whole batch.
    pub fn compressed_batch(&mut self, partition: i32, payload: &[u8], write: impl FnOnce(&mut [u8])) {
        let len = BATCH_HEADER_BYTES + payload.len();
        self.put(&partition.to_be_bytes());
        self.put_uvarint(len + 1);
        let start = self.len;
        self.put(&[0; BATCH_HEADER_BYTES]);
        self.put(payload);
        write(&mut self.bytes[start..start + len]);
        self.known.clear();
        self.written += 1;
        self.put(&[0]);
    }

    /// Ends the request and gives the bytes to send, length prefix included.
    pub fn finish(&mut self) -> &[u8] {
        self.put(&[0, 0]); // tagged fields of the topic and of the request
        let size = (self.len - 4) as i32;
        self.bytes[..4].copy_from_slice(&size.to_be_bytes());
        &self.bytes[..self.len]
    }

    fn reserve(&mut self, more: usize) {
        if self.bytes.len() < self.len + more {
            self.bytes.resize((self.len + more).next_power_of_two(), 0);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_uvarint(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            self.put(&[rest as u8 | 0x80]);
            rest >>= 7;
        }
        self.put(&[rest as u8]);
    }
}

/// Bytes that a batch takes in a request beyond its own.
pub const BATCH_OVERHEAD: usize = 4 + 5 + 1;
