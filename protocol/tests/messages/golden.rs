//! Frames and records written down byte by byte from the protocol guide and from Kafka's own topics.

use protocol::{
    ErrorCode, Message, Request,
    frame::{
        decode_request_header, decode_response, decode_versioned, encode_request, encode_response,
        encode_versioned,
    },
    messages::*,
    wire::Few,
};
use std::borrow::Cow;

/// Bytes from hexadecimal digits; anything else in the text is for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .split_whitespace()
        .flat_map(|word| word.bytes())
        .map(|c| (c as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The request encodes to these bytes, and these bytes decode to the request.
fn request<'a, M: Request<'a> + PartialEq + std::fmt::Debug>(frame: &'a [u8], message: M, version: i16) {
    let written = encode_request(7, Some("rdkafka"), &message, version).unwrap().concat();
    assert_eq!(written, frame);
    assert_eq!(frame[..4], (frame.len() as i32 - 4).to_be_bytes());
    let (header, mut d) = decode_request_header(&frame[4..]).unwrap();
    assert_eq!((header.request_api_key, header.request_api_version), (M::KEY, version));
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (7, Some("rdkafka")));
    assert_eq!(M::decode(&mut d, version).unwrap(), message);
    d.finish().unwrap();
}

/// The record encodes to these bytes, and these bytes decode to the record.
fn record<'a, M: Message<'a> + PartialEq + std::fmt::Debug>(bytes: &'a [u8], message: M, version: i16) {
    assert_eq!(encode_versioned(&message, version).unwrap(), bytes);
    assert_eq!(decode_versioned::<M>(bytes).unwrap(), (version, message));
}

#[test]
fn an_api_versions_request_of_librdkafka() {
    let frame = hex("00000024 0012 0003 00000007 0007 72646b61666b61 00
        0b 6c696272646b61666b61 06 322e332e30 00");
    let message = ApiVersionsRequest {
        client_software_name: "librdkafka".into(),
        client_software_version: "2.3.0".into(),
        ..Default::default()
    };
    request(&frame, message, 3);
}

#[test]
fn a_metadata_request_for_all_topics() {
    let frame = hex("00000015 0003 0001 00000007 0007 72646b61666b61 ffffffff");
    request(&frame, MetadataRequest { topics: None, ..Default::default() }, 1);
}

#[test]
fn a_produce_request_with_one_batch_in_the_first_flexible_version() {
    let frame = hex("0000002d 0000 0009 00000007 0007 72646b61666b61 00
        00 ffff 00007530
        02 06 746f706963 02 00000002 05 deadbeef 00 00 00");
    let batch = [0xde, 0xad, 0xbe, 0xef];
    let partition = produce::PartitionProduceData {
        index: 2,
        records: Some(protocol::Records::Borrowed(&batch)),
        ..Default::default()
    };
    let topic = produce::TopicProduceData {
        name: "topic".into(),
        partition_data: Few::one(partition),
        ..Default::default()
    };
    let message =
        ProduceRequest { acks: -1, timeout_ms: 30000, topic_data: Few::one(topic), ..Default::default() };
    request(&frame, message, 9);
}

#[test]
fn the_answer_to_an_unknown_version_of_api_versions() {
    let message = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION.code(),
        api_keys: vec![api_versions::ApiVersion {
            api_key: 18,
            min_version: 0,
            max_version: 4,
            ..Default::default()
        }],
        ..Default::default()
    };
    let frame = hex("00000010 00000007 0023 00000001 0012 0000 0004");
    assert_eq!(encode_response(7, &message, 0).unwrap().concat(), frame);
    assert_eq!(decode_response::<ApiVersionsResponse>(&frame[4..], 0), Ok((7, message)));
}

#[test]
fn a_flexible_answer_has_tags_in_its_header_but_api_versions_has_not() {
    let heartbeat = encode_response(7, &HeartbeatResponse::default(), 4).unwrap().concat();
    assert_eq!(heartbeat, hex("0000000c 00000007 00 00000000 0000 00"));
    let versions = encode_response(7, &ApiVersionsResponse::default(), 3).unwrap().concat();
    assert_eq!(versions, hex("0000000c 00000007 0000 01 00000000 00"));
}

#[test]
fn a_committed_offset_as_it_lies_in_the_offsets_topic() {
    let key = hex("0001 0005 67726f7570 0005 746f706963 00000003");
    record(&key, OffsetCommitKey { group: "group".into(), topic: "topic".into(), partition: 3 }, 1);
    let value = hex("0003 000000000000002a 00000005 0001 6d 0000018bcfe56800");
    let message = OffsetCommitValue {
        offset: 42,
        leader_epoch: 5,
        metadata: "m".into(),
        commit_timestamp: 1_700_000_000_000,
        ..Default::default()
    };
    record(&value, message, 3);
    let expiring = hex("0001 000000000000002a 0000 0000018bcfe56800 0000018bcfe56801");
    let message = OffsetCommitValue {
        offset: 42,
        commit_timestamp: 1_700_000_000_000,
        expire_timestamp: 1_700_000_000_001,
        ..Default::default()
    };
    record(&expiring, message, 1);
}

#[test]
fn a_classic_group_as_it_lies_in_the_offsets_topic() {
    record(&hex("0002 0005 67726f7570"), GroupMetadataKey { group: "group".into() }, 2);
    let value = hex("0003 0008 636f6e73756d6572 00000001 0005 72616e6765 0001 6d 0000018bcfe56800
        00000001 0001 6d ffff 0001 63 0002 2f68 0000ea60 0000afc8 00000002 aabb 00000001 cc");
    let member = group_log::MemberMetadata {
        member_id: "m".into(),
        group_instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout: 60_000,
        session_timeout: 45_000,
        subscription: Cow::Borrowed(&[0xaa, 0xbb]),
        assignment: Cow::Borrowed(&[0xcc]),
        ..Default::default()
    };
    let message = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 1,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        current_state_timestamp: 1_700_000_000_000,
        members: vec![member],
        ..Default::default()
    };
    record(&value, message, 3);
}

#[test]
fn a_member_of_a_new_group_with_its_classic_metadata_in_a_tag() {
    let value = hex("0000 00 00 02 63 03 2f68 02 02 74 00 0000ea60 00
        01 00 10 01 0000afc8 02 06 72616e6765 02 aa 00 00");
    let classic = group_log::ClassicMemberMetadata {
        session_timeout_ms: 45_000,
        supported_protocols: vec![group_log::ClassicProtocol {
            name: "range".into(),
            metadata: Cow::Borrowed(&[0xaa]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let message = ConsumerGroupMemberMetadataValue {
        instance_id: None,
        rack_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        subscribed_topic_names: vec!["t".into()],
        subscribed_topic_regex: None,
        rebalance_timeout_ms: 60_000,
        server_assignor: None,
        classic_member_metadata: Some(classic),
        ..Default::default()
    };
    record(&value, message, 0);
}

#[test]
fn a_transaction_as_it_lies_in_the_transactions_topic() {
    record(&hex("0000 0003 74786e"), TransactionLogKey { transactional_id: "txn".into() }, 0);
    let value = hex("0001 0000000000000bb8 0004 0000ea60 01 02 02 74 03 00000000 00000001 00
        0000018bcfe56800 0000018bcfe56800 01 02 02 0002");
    let partitions = transaction_log::PartitionsSchema {
        topic: "t".into(),
        partition_ids: vec![0, 1],
        ..Default::default()
    };
    let message = TransactionLogValue {
        producer_id: 3000,
        producer_epoch: 4,
        transaction_timeout_ms: 60_000,
        transaction_status: 1,
        transaction_partitions: Some(vec![partitions]),
        transaction_last_update_timestamp_ms: 1_700_000_000_000,
        transaction_start_timestamp_ms: 1_700_000_000_000,
        client_transaction_version: 2,
        ..Default::default()
    };
    record(&value, message, 1);
}

#[test]
fn a_subscription_of_the_consumer_protocol() {
    let bytes = hex("0001 00000001 0001 74 ffffffff 00000001 0001 74 00000002 00000000 00000001");
    let owned = consumer_protocol::TopicPartition { topic: "t".into(), partitions: vec![0, 1] };
    let message = ConsumerProtocolSubscription {
        topics: vec!["t".into()],
        user_data: None,
        owned_partitions: vec![owned],
        ..Default::default()
    };
    record(&bytes, message, 1);
}

#[test]
fn unknown_tagged_fields_survive_and_keep_their_order() {
    let mut message = HeartbeatRequest { group_id: "g".into(), member_id: "m".into(), ..Default::default() };
    message.unknown_tagged_fields.insert(300, vec![1, 2, 3]);
    message.unknown_tagged_fields.insert(9, vec![]);
    let frame = encode_request(7, Some("rdkafka"), &message, 4).unwrap().concat();
    assert!(frame.ends_with(&hex("02 09 00 ac02 03 010203")));
    let (_, mut d) = decode_request_header(&frame[4..]).unwrap();
    assert_eq!(HeartbeatRequest::decode(&mut d, 4).unwrap(), message);
}

#[test]
fn tagged_fields_out_of_order_are_sorted_and_the_last_duplicate_counts() {
    let bytes = hex("02 67 00000001 02 6d 00 03 0b 01 aa 09 01 bb 0b 01 cc");
    let message = HeartbeatRequest::decode(&mut protocol::Decoder::new(&bytes), 4).unwrap();
    let fields: Vec<_> = message.unknown_tagged_fields.iter().collect();
    assert_eq!(fields, [(9, &[0xbb][..]), (11, &[0xcc][..])]);
}

#[test]
fn a_field_that_is_not_ignorable_cannot_be_dropped_silently() {
    let message =
        FetchRequest { forgotten_topics_data: vec![fetch::ForgottenTopic::default()], ..Default::default() };
    let refused = encode_request(1, None, &message, 6);
    assert!(matches!(
        refused,
        Err(protocol::EncodeError::FieldNotInVersion { field: "forgotten_topics_data", .. })
    ));
    let message = FetchRequest { rack_id: "r1".into(), ..Default::default() };
    assert!(encode_request(1, None, &message, 6).is_ok(), "the rack is ignorable");
}

#[test]
fn a_request_with_bytes_behind_it_can_be_refused() {
    let mut frame = encode_request(1, None, &HeartbeatRequest::default(), 4).unwrap().concat();
    frame.push(0);
    let (_, mut d) = decode_request_header(&frame[4..]).unwrap();
    HeartbeatRequest::decode(&mut d, 4).unwrap();
    assert_eq!(d.finish(), Err(protocol::DecodeError::TrailingBytes(1)));
}

#[test]
fn an_http_request_is_an_unknown_api() {
    let refused = decode_request_header(b"GET / HTTP/1.1\r\n").map(|(header, _)| header);
    assert_eq!(refused, Err(protocol::DecodeError::UnknownApiKey(0x4745)));
}
