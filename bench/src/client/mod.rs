//! A small Kafka client on glommio: requests and answers one at a time, for what precedes and accompanies the load itself.

mod connection;
mod topic;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::wire::{Decoder, Message, Request};
use protocol::{error::ErrorCode, frame};

use crate::error::BenchError;

pub use connection::{Connection, FrameReader};
pub use topic::{Topic, describe_topic, ensure_topic};

/// Connects to the first of `addresses` that answers.
pub async fn connect_any(addresses: &[String]) -> Result<Client, BenchError> {
    let mut last = BenchError::Option("--bootstrap is empty".to_owned());
    for address in addresses {
        match Client::connect(address).await {
            Ok(client) => return Ok(client),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How long a broker may take over an answer before its connection counts as broken: the default of Kafka's clients (`request.timeout.ms`).
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The name that the client gives itself.
pub const CLIENT_ID: &str = "bench";

/// Kafka's name of an error code.
pub fn error_name(code: i16) -> String {
    ErrorCode(code).name().to_owned()
}

/// Which versions of which API a broker serves.
#[derive(Debug, Clone, Default)]
pub struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// The highest version of API `key` that the broker serves among `ours`.
    pub fn choose(&self, key: i16, ours: RangeInclusive<i16>) -> Option<i16> {
        let (min, max) = self.0.get(&key)?;
        let version = (*max).min(*ours.end());
        (version >= *min && version >= *ours.start()).then_some(version)
    }
}

/// A connection with its broker's versions, on which one request at a time is made.
pub struct Client {
    /// The connection.
    pub connection: Connection,
    /// Its receiving side.
    pub reader: FrameReader,
    /// What the broker serves.
    pub versions: Versions,
    sender: RequestSender,
}

/// Numbers requests and writes them.
#[derive(Debug, Default)]
pub struct RequestSender {
    correlation_id: i32,
}

impl RequestSender {
    /// Writes a request; returns its correlation id.
    pub async fn send<'m, M: Request<'m>>(
        &mut self,
        connection: &Connection,
        request: &M,
        version: i16,
    ) -> Result<i32, BenchError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let segments = frame::encode_request(self.correlation_id, Some(CLIENT_ID), request, version)
            .map_err(|error| connection.nonsense(error))?;
        for segment in segments {
            connection.write_all(&segment).await?;
        }
        Ok(self.correlation_id)
    }
}

impl Client {
    /// Connects and asks for the broker's versions.
    pub async fn connect(address: &str) -> Result<Client, BenchError> {
        let connection = Connection::connect(address).await?;
        let mut client = Client {
            connection,
            reader: FrameReader::new(),
            versions: Versions::default(),
            sender: RequestSender::default(),
        };
        client.negotiate().await?;
        Ok(client)
    }

    async fn negotiate(&mut self) -> Result<(), BenchError> {
        let request = ApiVersionsRequest {
            client_software_name: "bench".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..ApiVersionsRequest::default()
        };
        // Version 3 is flexible and known since Kafka 2.4; a broker that lacks it answers in version 0 (KIP-511).
        let answer = self.exchange(&request, 3).await?;
        let (error_code, api_keys) = match ApiVersionsResponse::decode(&mut Decoder::new(&answer[4..]), 3) {
            Ok(response) => (response.error_code, response.api_keys),
            Err(_) => {
                let response = ApiVersionsResponse::decode(&mut Decoder::new(&answer[4..]), 0)
                    .map_err(|error| self.connection.nonsense(error))?;
                (response.error_code, response.api_keys)
            }
        };
        if error_code != 0 && api_keys.is_empty() {
            return Err(BenchError::Refused {
                what: format!("asking {} for its versions", self.connection.address),
                code: error_name(error_code),
                message: String::new(),
            });
        }
        self.versions =
            Versions(api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect());
        Ok(())
    }

    /// The version in which `M` is spoken with this broker.
    pub fn version<'m, M: Message<'m>>(&self) -> Result<i16, BenchError> {
        self.versions.choose(M::KEY, M::VERSIONS).ok_or_else(|| BenchError::Refused {
            what: format!("{} on {}", M::NAME, self.connection.address),
            code: "UNSUPPORTED_VERSION".to_owned(),
            message: ": the broker serves no version of this request that we know".to_owned(),
        })
    }

    /// Makes a request and waits for its answer.
    pub async fn call<'m, 's, M: Request<'m>>(
        &'s mut self,
        request: &M,
    ) -> Result<M::Response<'s>, BenchError> {
        let version = self.version::<M>()?;
        self.call_version(request, version).await
    }

    /// Makes a request to which the broker answers when something has happened, which may take it `longer` than anything else.
    pub async fn call_long<'m, 's, M: Request<'m>>(
        &'s mut self,
        request: &M,
        longer: Duration,
    ) -> Result<M::Response<'s>, BenchError> {
        let version = self.version::<M>()?;
        self.call_within(request, version, ANSWER_LIMIT + longer).await
    }

    /// Makes a request in a certain version and waits for its answer.
    pub async fn call_version<'m, 's, M: Request<'m>>(
        &'s mut self,
        request: &M,
        version: i16,
    ) -> Result<M::Response<'s>, BenchError> {
        self.call_within(request, version, ANSWER_LIMIT).await
    }

    async fn call_within<'m, 's, M: Request<'m>>(
        &'s mut self,
        request: &M,
        version: i16,
        limit: Duration,
    ) -> Result<M::Response<'s>, BenchError> {
        let expected = self.sender.send(&self.connection, request, version).await?;
        let answer = self.connection.within(limit, self.reader.next(&self.connection)).await?;
        let (correlation_id, response) = frame::decode_response::<M::Response<'s>>(answer, version)
            .map_err(|error| self.connection.nonsense(error))?;
        if correlation_id != expected {
            return Err(self.connection.nonsense(format!("correlation id {correlation_id}, not {expected}")));
        }
        Ok(response)
    }

    async fn exchange<'m, M: Request<'m>>(
        &mut self,
        request: &M,
        version: i16,
    ) -> Result<Vec<u8>, BenchError> {
        self.sender.send(&self.connection, request, version).await?;
        let answer = self.connection.within(ANSWER_LIMIT, self.reader.next(&self.connection)).await?;
        if answer.len() < 4 {
            return Err(self.connection.nonsense("an answer without header"));
        }
        Ok(answer.to_vec())
    }

    /// The parts of the client, for more than one request at a time.
    pub fn split(self) -> (RequestSender, Connection, FrameReader) {
        (self.sender, self.connection, self.reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_both_sides_know_is_spoken() {
        let versions = Versions(BTreeMap::from([(0, (3, 13)), (1, (4, 18))]));
        assert_eq!(versions.choose(0, 9..=12), Some(12));
        assert_eq!(versions.choose(1, 4..=30), Some(18));
        assert_eq!(versions.choose(1, 0..=3), None);
        assert_eq!(versions.choose(1, 19..=20), None);
        assert_eq!(versions.choose(2, 0..=3), None);
    }
}
