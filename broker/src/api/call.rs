//! One request on its way through its handler.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use bytes::Bytes;
use coord::types::BrokerId;
use protocol::frame::{decode_request_header, encode_response};
use protocol::{ApiKey, Decoder, Message, Request};

use crate::net::{Connection, DispatchOutcome};
use crate::placement::ShardId;
use crate::shard::Shard;

/// A request that has been routed to its handler.
pub struct Call {
    /// The shard that has the connection.
    pub shard: Rc<Shard>,
    /// Where it came from; none if another node of the cluster has passed it on to this one, the active controller.
    pub connection: Option<Rc<Connection>>,
    /// The broker that the client has sent it to.
    pub received_by: BrokerId,
    /// What is asked.
    pub key: ApiKey,
    /// In which version; the answer has the same.
    pub version: i16,
    /// Ties the answer to the request.
    pub correlation_id: i32,
    pub(super) frame: Bytes,
    pub(super) body_at: usize,
}

/// What a handler returns.
pub type Answer = Result<DispatchOutcome, Refusal>;

impl Call {
    /// Reads the request; what it borrows lives in the frame. Bytes after it are ignored, as Kafka does.
    pub fn decode<'a, M: Request<'a>>(&'a self) -> Result<M, Refusal> {
        let mut body = Decoder::new(&self.frame[self.body_at..]);
        M::decode(&mut body, self.version).map_err(|error| Refusal::malformed(self.key.name(), error))
    }

    /// The name that the client has given itself in the request's header; empty if none.
    pub fn client_id(&self) -> &str {
        match decode_request_header(&self.frame).map(|(header, _)| header.client_id) {
            Ok(Some(std::borrow::Cow::Borrowed(client_id))) => client_id,
            _ => "",
        }
    }

    /// The client's address; that of nobody if another node has passed the request on.
    pub fn client_address(&self) -> IpAddr {
        self.connection.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |connection| connection.peer.ip())
    }

    /// Notes that the request needs this shard: a connection may move to where most of its requests go.
    pub fn note_call(&self, owner: ShardId) {
        if let Some(connection) = &self.connection {
            connection.note_call(owner, self.shard.count());
        }
    }

    /// The request as it came, without its length.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// The request without its header, to outlive the call or to go to another shard.
    pub fn body(&self) -> Bytes {
        self.frame.slice(self.body_at..)
    }

    /// A part of the request (a slice that [`Call::decode`] gave) that outlives it and may go to another shard.
    pub fn share(&self, part: &[u8]) -> Bytes {
        self.frame.slice_ref(part)
    }

    /// Lets go of the request's memory, as far as nothing shares it. What has been read from the request is gone, too.
    pub fn let_go_of_frame(&mut self) {
        self.frame = Bytes::new();
        self.body_at = 0;
    }

    /// The answer as it goes to the client.
    pub fn respond<'a, M: Message<'a>>(&self, response: &M) -> Answer {
        self.respond_in_version(response, self.version)
    }

    /// The answer in another version than the request's, which only ApiVersions may need.
    pub(super) fn respond_in_version<'a, M: Message<'a>>(&self, response: &M, version: i16) -> Answer {
        match encode_response(self.correlation_id, response, version) {
            Ok(segments) => Ok(DispatchOutcome::Respond(segments)),
            Err(error) => {
                tracing::error!(request = self.key.name(), version, %error, "an answer could not be encoded");
                Err(Refusal::new(format!("the answer to {} could not be encoded: {error}", self.key.name())))
            }
        }
    }
}

/// Why a request gets no answer but costs the client its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// A refusal with its reason, for the log.
    pub fn new(reason: impl Into<String>) -> Self {
        Refusal(reason.into())
    }

    /// The bytes are not what they claim to be.
    pub fn malformed(what: &str, error: impl fmt::Display) -> Self {
        Refusal(format!("malformed request ({what}): {error}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
