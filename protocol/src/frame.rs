//! Whole frames: the length prefix, the header and the message.

use crate::{
    api::{ApiKey, request_header_version, response_header_version},
    header::{RequestHeader, ResponseHeader},
    wire::{DecodeError, Decoder, EncodeError, Encoder, Few, Message, Request},
};
use bytes::Bytes;
use std::borrow::Cow;

/// Room for the small fields of a typical frame.
const INITIAL_BYTES: usize = 256;

/// Encodes a request with its length prefix and header, as segments for a vectored send.
pub fn encode_request<'a, M: Request<'a>>(
    correlation_id: i32,
    client_id: Option<&str>,
    message: &M,
    version: i16,
) -> Result<Few<Bytes>, EncodeError> {
    let key = api_key::<M>();
    let header = RequestHeader {
        request_api_key: M::KEY,
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(Cow::Borrowed),
        ..RequestHeader::default()
    };
    let mut e = Encoder::with_capacity(INITIAL_BYTES);
    e.int32(0);
    header.encode(&mut e, request_header_version(key, version))?;
    message.encode(&mut e, version)?;
    e.patch_frame_length()?;
    Ok(e.finish())
}

/// Encodes a response with its length prefix and header, as segments for a vectored send.
pub fn encode_response<'a, M: Message<'a>>(
    correlation_id: i32,
    message: &M,
    version: i16,
) -> Result<Few<Bytes>, EncodeError> {
    let header = ResponseHeader { correlation_id, ..ResponseHeader::default() };
    let mut e = Encoder::with_capacity(INITIAL_BYTES);
    e.int32(0);
    header.encode(&mut e, response_header_version(api_key::<M>(), version))?;
    message.encode(&mut e, version)?;
    e.patch_frame_length()?;
    Ok(e.finish())
}

/// Reads the header of a request from a frame without its length prefix. The decoder that comes back stands before the
/// message.
///
/// The version need not be one that the message has: ApiVersions must be answered in any version.
pub fn decode_request_header(frame: &[u8]) -> Result<(RequestHeader<'_>, Decoder<'_>), DecodeError> {
    let mut peek = Decoder::new(frame);
    let key = ApiKey::try_from(peek.int16()?)?;
    let version = peek.int16()?;
    let mut d = Decoder::new(frame);
    let header = RequestHeader::decode(&mut d, request_header_version(key, version))?;
    Ok((header, d))
}

/// Reads a response from a frame without its length prefix; returns the correlation id and the message.
pub fn decode_response<'a, M: Message<'a>>(frame: &'a [u8], version: i16) -> Result<(i32, M), DecodeError> {
    let mut d = Decoder::new(frame);
    let header = ResponseHeader::decode(&mut d, response_header_version(api_key::<M>(), version))?;
    let message = M::decode(&mut d, version)?;
    d.finish()?;
    Ok((header.correlation_id, message))
}

/// Encodes a message with its version in front, as coordinators store keys and values and consumers exchange
/// subscriptions and assignments.
pub fn encode_versioned<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut e = Encoder::with_capacity(INITIAL_BYTES);
    e.int16(version);
    message.encode(&mut e, version)?;
    Ok(e.finish_contiguous())
}

/// Reads a message that has its version in front; returns the version too.
pub fn decode_versioned<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<(i16, M), DecodeError> {
    let mut d = Decoder::new(bytes);
    let version = d.int16()?;
    let message = M::decode(&mut d, version)?;
    d.finish()?;
    Ok((version, message))
}

fn api_key<'a, M: Message<'a>>() -> ApiKey {
    ApiKey::from_i16(M::KEY).expect("only requests and responses travel in frames")
}
