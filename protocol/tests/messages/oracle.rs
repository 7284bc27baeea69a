//! Every message in every version against another implementation, the crate `kafka-protocol`.
//!
//! A random value encoded by us must be read by the other side to its end, be written by it in the same bytes, and be
//! read from those by us as the same value.

use crate::gen_values::{Gen, Generate};
use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages as theirs,
    protocol::{Decodable, Encodable, Message as TheirMessage},
};
use protocol::{ApiKey, Decoder, EncodeError, Encoder, Message, messages as ours};
use std::ops::RangeInclusive;

/// Random values per message and version.
const VALUES: u64 = 40;

/// Tagged fields that are not ignorable: like Kafka we refuse to drop them in older versions, the other side drops them.
const DROPPED_BY_ORACLE: &[&str] =
    &["replica_state", "diverging_epoch", "current_leader", "snapshot_id", "node_endpoints"];

/// Messages that the other side does not have; the golden frames check them.
const NOT_IN_ORACLE: &[&str] = &["group_log", "transaction_log"];

macro_rules! oracles {
    ($($kind:tt, $module:ident, $message:ident, $key:literal, $low:literal, $high:literal;)*) => {
        #[test]
        fn every_message_agrees_with_the_oracle_in_every_version() {
            let mut compared = 0;
            $(oracles!(@run compared $module $message);)*
            assert!(compared > 400, "only {compared} pairs of message and version were compared");
        }

        #[test]
        fn defaults_and_what_may_be_dropped_agree_with_the_oracle_when_versions_change() {
            let mut differences: Vec<String> = Vec::new();
            $(oracles!(@change differences $module $message);)*
            assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
        }

        /// Kind, module and name of all our messages.
        const OURS: &[(&str, &str, &str)] =
            &[$((stringify!($kind), stringify!($module), stringify!($message))),*];
    };
    (@change $differences:ident group_log $message:ident) => {};
    (@change $differences:ident transaction_log $message:ident) => {};
    (@change $differences:ident $module:ident $message:ident) => {
        for from in versions_of::<theirs::$message>() {
            for to in versions_of::<theirs::$message>() {
                for seed in 0..8 {
                    let value: ours::$module::$message = Generate::generate(&mut Gen::without_unknown_tags(seed), from);
                    let bytes = encode(&value, from);
                    let theirs = {
                        let message = theirs::$message::decode(&mut bytes.clone(), from).expect("compared elsewhere");
                        let mut output = BytesMut::new();
                        message.encode(&mut output, to).ok().map(|()| output.freeze())
                    };
                    let mut e = Encoder::new();
                    let message = ours::$module::$message::decode(&mut Decoder::new(&bytes), from).expect("ours");
                    let ours = match message.encode(&mut e, to) {
                        Ok(()) => Some(e.finish_contiguous()),
                        // They write a null that the other side could not read.
                        Err(EncodeError::UnexpectedNull { .. }) => continue,
                        Err(EncodeError::FieldNotInVersion { field, .. }) if DROPPED_BY_ORACLE.contains(&field) => {
                            continue;
                        }
                        Err(_) => None,
                    };
                    if ours != theirs {
                        $differences.push(format!("{} v{from} to v{to}: {value:?}", stringify!($message)));
                    }
                }
            }
        }
    };
    (@run $compared:ident group_log $message:ident) => {};
    (@run $compared:ident transaction_log $message:ident) => {};
    (@run $compared:ident $module:ident $message:ident) => {
        for version in ours::$module::$message::VERSIONS {
            if (versions_of::<theirs::$message>()).contains(&version) {
                $compared += 1;
                for seed in 0..VALUES {
                    let value: ours::$module::$message = Generate::generate(&mut Gen::new(seed), version);
                    let bytes = encode(&value, version);
                    let rewritten = rewrite::<theirs::$message>(&bytes, version)
                        .unwrap_or_else(|problem| panic!("{} v{version} seed {seed}: {problem}\n{value:?}",
                            stringify!($message)));
                    assert_eq!(bytes, rewritten, "{} v{version} seed {seed}\n{value:?}", stringify!($message));
                    let mut d = Decoder::new(&rewritten);
                    let read = ours::$module::$message::decode(&mut d, version).expect("what they wrote");
                    assert_eq!(read, value, "{} v{version} seed {seed}", stringify!($message));
                    d.finish().expect("nothing left");
                }
            }
        }
    };
}

protocol::for_each_message!(oracles);

fn versions_of<M: TheirMessage>() -> RangeInclusive<i16> {
    M::VERSIONS.min..=M::VERSIONS.max
}

fn encode<'a, M: Message<'a>>(value: &M, version: i16) -> Bytes {
    let mut e = Encoder::new();
    value.encode(&mut e, version).unwrap_or_else(|problem| panic!("{} v{version}: {problem}", M::NAME));
    e.finish_contiguous()
}

/// Lets the other side read and write the message.
fn rewrite<M: Decodable + Encodable>(bytes: &Bytes, version: i16) -> Result<Bytes, String> {
    let mut input = bytes.clone();
    let message =
        M::decode(&mut input, version).map_err(|problem| format!("they cannot read it: {problem}"))?;
    if !input.is_empty() {
        return Err(format!("they left {} bytes", input.len()));
    }
    let mut output = BytesMut::new();
    message.encode(&mut output, version).map_err(|problem| format!("they cannot write it: {problem}"))?;
    Ok(output.freeze())
}

#[test]
fn no_api_of_the_oracle_is_forgotten() {
    for number in -1..1000 {
        let theirs = theirs::ApiKey::try_from(number).ok();
        let ours = ApiKey::from_i16(number);
        let Some(theirs) = theirs else {
            // Streams groups (KIP-1071) are in Kafka 4.1 but not in the oracle.
            assert!(matches!(
                ours,
                None | Some(ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe)
            ));
            continue;
        };
        let ours = ours.unwrap_or_else(|| panic!("no name for {theirs:?}"));
        assert_eq!(ours.name(), format!("{theirs:?}"));
        for version in 0..20 {
            if (theirs.valid_versions().min..=theirs.valid_versions().max).contains(&version) {
                let (request, response) =
                    (theirs.request_header_version(version), theirs.response_header_version(version));
                assert_eq!(
                    protocol::api::request_header_version(ours, version),
                    request,
                    "{ours} v{version}"
                );
                assert_eq!(
                    protocol::api::response_header_version(ours, version),
                    response,
                    "{ours} v{version}"
                );
            }
        }
        match ours.codec_versions() {
            Some(versions) => {
                let known = theirs.valid_versions();
                assert_eq!(*versions.start(), known.min, "{ours}");
                assert!(
                    *versions.end() >= known.max,
                    "{ours}: {versions:?} lacks versions up to {}",
                    known.max
                );
            }
            None => assert!(NAME_ONLY.contains(&ours), "{ours} has no messages"),
        }
    }
}

/// APIs between brokers and of share groups, whose messages we do not speak.
const NAME_ONLY: &[ApiKey] = &[
    ApiKey::Vote,
    ApiKey::BeginQuorumEpoch,
    ApiKey::EndQuorumEpoch,
    ApiKey::Envelope,
    ApiKey::FetchSnapshot,
    ApiKey::ControllerRegistration,
    ApiKey::AssignReplicasToDirs,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::InitializeShareGroupState,
    ApiKey::ReadShareGroupState,
    ApiKey::WriteShareGroupState,
    ApiKey::DeleteShareGroupState,
    ApiKey::ReadShareGroupStateSummary,
    ApiKey::StreamsGroupHeartbeat,
    ApiKey::StreamsGroupDescribe,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
];

#[test]
fn only_the_coordinators_own_records_are_not_compared() {
    for (kind, module, message) in OURS {
        if NOT_IN_ORACLE.contains(module) {
            assert_eq!(*kind, "data", "{message}");
        }
    }
    for &key in ApiKey::ALL {
        let name_only = NAME_ONLY.contains(&key);
        let count = OURS.iter().filter(|(_, _, message)| {
            *message == format!("{key}Request") || *message == format!("{key}Response")
        });
        assert_eq!(count.count(), if name_only { 0 } else { 2 }, "{key}");
    }
}
