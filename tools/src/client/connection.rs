//! One blocking connection: versions agreed at the start, answers of bounded size.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;

use protocol::frame;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::wire::{Decoder, Message, Request};

use super::error::{ClientError, check};

/// The name that the tools give themselves.
const CLIENT_ID: &str = "brokerctl";
/// The largest answer that is taken.
const MAX_RESPONSE_BYTES: usize = 128 << 20;
/// The version of ApiVersions that is asked first; a broker that lacks it answers in version 0 (KIP-511).
const FIRST_VERSION: i16 = 3;

/// An open connection to one broker.
pub struct Connection {
    stream: TcpStream,
    address: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects to `host:port` and asks for the broker's versions.
    pub fn open(address: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let stream = connect(address, timeout)
            .map_err(|source| ClientError::Connect { address: address.to_owned(), source })?;
        let mut connection = Connection {
            stream,
            address: address.to_owned(),
            versions: BTreeMap::new(),
            correlation_id: 0,
            answer: Vec::new(),
        };
        connection.negotiate()?;
        Ok(connection)
    }

    /// Where the connection leads.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn negotiate(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        self.send(&request, FIRST_VERSION)?;
        self.receive()?;
        let body = self.answer.get(4..).ok_or_else(|| self.nonsense("an answer without header"))?;
        let response = ApiVersionsResponse::decode(&mut Decoder::new(body), FIRST_VERSION)
            .or_else(|_| ApiVersionsResponse::decode(&mut Decoder::new(body), 0))
            .map_err(|error| self.nonsense(error))?;
        if response.api_keys.is_empty() {
            check(|| format!("asking {} for its versions", self.address), response.error_code, None)?;
        }
        let versions =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        self.versions = versions;
        Ok(())
    }

    /// The version in which `M` is spoken here, or `None` if the broker does not serve it.
    pub fn version<'m, M: Message<'m>>(&self) -> Option<i16> {
        self.version_in::<M>(M::VERSIONS)
    }

    fn version_in<'m, M: Message<'m>>(&self, ours: RangeInclusive<i16>) -> Option<i16> {
        let (min, max) = *self.versions.get(&M::KEY)?;
        let version = max.min(*ours.end());
        (version >= min && version >= *ours.start()).then_some(version)
    }

    /// Makes a request and waits for its answer.
    pub fn call<'m, 's, M: Request<'m>>(&'s mut self, request: &M) -> Result<M::Response<'s>, ClientError> {
        self.call_in(request, M::VERSIONS)
    }

    /// Makes a request in one of the versions whose fields `request` uses, and waits for its answer.
    pub fn call_in<'m, 's, M: Request<'m>>(
        &'s mut self,
        request: &M,
        versions: RangeInclusive<i16>,
    ) -> Result<M::Response<'s>, ClientError> {
        let version = self.version_in::<M>(versions).ok_or_else(|| self.unsupported::<M>())?;
        self.send(request, version)?;
        self.receive()?;
        let (correlation_id, response) = frame::decode_response::<M::Response<'s>>(&self.answer, version)
            .map_err(|error| self.nonsense(error))?;
        if correlation_id != self.correlation_id {
            return Err(self.nonsense("the answer belongs to another request"));
        }
        Ok(response)
    }

    /// Makes a request that the broker does not answer (produce with acks=0).
    pub fn tell<'m, M: Request<'m>>(&mut self, request: &M) -> Result<(), ClientError> {
        let version = self.version::<M>().ok_or_else(|| self.unsupported::<M>())?;
        self.send(request, version)
    }

    fn send<'m, M: Request<'m>>(&mut self, request: &M, version: i16) -> Result<(), ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let segments = frame::encode_request(self.correlation_id, Some(CLIENT_ID), request, version)
            .map_err(|error| self.nonsense(error))?;
        segments
            .iter()
            .try_for_each(|segment| self.stream.write_all(segment))
            .map_err(|error| self.broken(error))
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(|error| self.broken(error))?;
        let len = i32::from_be_bytes(prefix);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_RESPONSE_BYTES)
            .ok_or_else(|| self.nonsense(format!("a length prefix of {len}")))?;
        self.answer.clear();
        // Reading grows the buffer as bytes arrive: a peer that only claims a large answer gets no memory for it.
        let read = (&self.stream)
            .take(len as u64)
            .read_to_end(&mut self.answer)
            .map_err(|error| self.broken(error))?;
        if read < len {
            return Err(self.broken(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }

    fn broken(&self, source: io::Error) -> ClientError {
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed it")
            }
            _ => source,
        };
        ClientError::Connection { address: self.address.clone(), source }
    }

    fn unsupported<'m, M: Message<'m>>(&self) -> ClientError {
        ClientError::Unsupported { address: self.address.clone(), api: M::NAME.trim_end_matches("Request") }
    }

    fn nonsense(&self, reason: impl ToString) -> ClientError {
        ClientError::Protocol { address: self.address.clone(), reason: reason.to_string() }
    }
}

fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for target in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&target, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
