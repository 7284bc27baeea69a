//! What goes over a replication link, byte by byte. Pure.
//!
//! A link is dialed by a leader's shard. From the leader come appends, from the follower replies; each frame carries many partitions.
//!
//! ```text
//! appends    kind u8 (= 1) | partitions u32 | for each: head | all batches, in the order of the partitions
//! head       topic id 16 | partition i32 | leader epoch i32 | round u32 | previous end i64 | previous epoch i32 | high watermark i64
//!            | log start i64 | log end i64 | first offset for consumers i64 | bytes of batches u32
//! replies    kind u8 (= 2) | stored bytes u64 | partitions u32 | for each: topic id 16 | partition i32 | broker epoch i64 | leader epoch i32 | body
//! body       1 | durable end i64
//!            2 | has round u8 | round u32 | epoch i32 | end i64
//!            3
//! ```
//! Integers are big-endian. "Stored bytes" are those of appends frames that the follower has taken since its last replies: it has room for as many more.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use coord::replica::{Append, Reply, ReplyBody};
use protocol::wire::Few;
use storage::{LeaderEpoch, Offset, PartitionId, TopicIdPartition};
use uuid::Uuid;

const KIND_APPENDS: u8 = 1;
const KIND_REPLIES: u8 = 2;
/// Kind and count.
const APPENDS_HEADER_BYTES: usize = 5;
/// What an appends frame has for each partition besides the batches.
pub const APPEND_HEAD_BYTES: usize = 16 + 4 + 4 + 4 + 8 + 4 + 8 * 4 + 4;
/// The shortest reply.
const REPLY_BYTES_MIN: usize = 16 + 4 + 8 + 4 + 1;

const BODY_DURABLE: u8 = 1;
const BODY_POSITION: u8 = 2;
const BODY_STALE_LEADER: u8 = 3;

/// A frame that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replication frame is malformed: {0}")]
pub struct Malformed(pub &'static str);

/// One partition of an appends frame, as a follower gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionAppends {
    /// Which.
    pub id: TopicIdPartition,
    /// What the leader says.
    pub append: Append,
    /// The first offset that consumers may read at the leader; may lie amid a batch.
    pub consumers_from: Offset,
    /// Whole batches, one behind the other.
    pub batches: Bytes,
}

/// One partition's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionReply {
    /// Which.
    pub id: TopicIdPartition,
    /// What the follower says.
    pub reply: Reply,
}

/// A frame of replies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replies {
    /// Bytes of appends frames that have been taken since the last frame of replies.
    pub stored_bytes: u64,
    /// In the order in which they were given.
    pub replies: Vec<PartitionReply>,
}

/// An appends frame that is being put together: batches stay the slices that they are.
#[derive(Debug, Default)]
pub struct AppendsBuilder {
    heads: BytesMut,
    partitions: u32,
    batches: Vec<Bytes>,
    bytes: usize,
}

impl AppendsBuilder {
    /// Adds a partition.
    pub fn put(
        &mut self,
        id: TopicIdPartition,
        append: &Append,
        consumers_from: Offset,
        batches: Few<Bytes>,
    ) {
        let length: usize = batches.iter().map(Bytes::len).sum();
        let heads = &mut self.heads;
        put_id(heads, &id);
        heads.put_i32(append.leader_epoch.0);
        heads.put_u32(append.round);
        heads.put_i64(append.previous_end.0);
        heads.put_i32(append.previous_epoch.0);
        heads.put_i64(append.high_watermark.0);
        heads.put_i64(append.log_start_offset.0);
        heads.put_i64(append.log_end_offset.0);
        heads.put_i64(consumers_from.0);
        heads.put_u32(u32::try_from(length).expect("a frame is smaller than 4 GiB"));
        self.partitions += 1;
        self.bytes += length;
        self.batches.extend(batches);
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.partitions == 0
    }

    /// The frame's size.
    pub fn bytes(&self) -> usize {
        APPENDS_HEADER_BYTES + self.heads.len() + self.bytes
    }

    /// The frame as slices, the first of which is new.
    pub fn finish(self) -> Vec<Bytes> {
        let mut header = BytesMut::with_capacity(APPENDS_HEADER_BYTES + self.heads.len());
        header.put_u8(KIND_APPENDS);
        header.put_u32(self.partitions);
        header.extend_from_slice(&self.heads);
        std::iter::once(header.freeze()).chain(self.batches).collect()
    }
}

/// Reads an appends frame; batches are slices of it.
pub fn decode_appends(mut frame: Bytes) -> Result<Vec<PartitionAppends>, Malformed> {
    let short = Malformed("it is too short");
    if frame.try_get_u8().map_err(|_| short)? != KIND_APPENDS {
        return Err(Malformed("appends are expected"));
    }
    let count = frame.try_get_u32().map_err(|_| short)? as usize;
    let heads_bytes =
        count.checked_mul(APPEND_HEAD_BYTES).filter(|bytes| *bytes <= frame.len()).ok_or(short)?;
    let mut heads = frame.split_to(heads_bytes);
    let mut appends = Vec::with_capacity(count);
    for _ in 0..count {
        let id = get_id(&mut heads);
        let append = Append {
            leader_epoch: LeaderEpoch(heads.get_i32()),
            round: heads.get_u32(),
            previous_end: Offset(heads.get_i64()),
            previous_epoch: LeaderEpoch(heads.get_i32()),
            high_watermark: Offset(heads.get_i64()),
            log_start_offset: Offset(heads.get_i64()),
            log_end_offset: Offset(heads.get_i64()),
        };
        let consumers_from = Offset(heads.get_i64());
        let length = heads.get_u32() as usize;
        let offsets =
            [append.previous_end, append.high_watermark, append.log_start_offset, append.log_end_offset];
        if offsets.iter().any(|offset| offset.0 < 0) || length > frame.len() {
            return Err(Malformed("a partition's numbers cannot be"));
        }
        appends.push(PartitionAppends { id, append, consumers_from, batches: frame.split_to(length) });
    }
    match frame.is_empty() {
        true => Ok(appends),
        false => Err(Malformed("something follows the batches")),
    }
}

/// Writes a frame of replies.
pub fn encode_replies(replies: &Replies) -> Bytes {
    let mut out = BytesMut::with_capacity(13 + replies.replies.len() * (REPLY_BYTES_MIN + 17));
    out.put_u8(KIND_REPLIES);
    out.put_u64(replies.stored_bytes);
    out.put_u32(u32::try_from(replies.replies.len()).expect("fewer than 2^32 partitions"));
    for PartitionReply { id, reply } in &replies.replies {
        put_id(&mut out, id);
        out.put_i64(reply.broker_epoch);
        out.put_i32(reply.leader_epoch.0);
        match reply.body {
            ReplyBody::Durable { end } => {
                out.put_u8(BODY_DURABLE);
                out.put_i64(end.0);
            }
            ReplyBody::Position { round, epoch, end } => {
                out.put_u8(BODY_POSITION);
                out.put_u8(round.is_some().into());
                out.put_u32(round.unwrap_or_default());
                out.put_i32(epoch.0);
                out.put_i64(end.0);
            }
            ReplyBody::StaleLeader => out.put_u8(BODY_STALE_LEADER),
        }
    }
    out.freeze()
}

/// Reads a frame of replies.
pub fn decode_replies(mut frame: Bytes) -> Result<Replies, Malformed> {
    let short = |_| Malformed("it is too short");
    if frame.try_get_u8().map_err(short)? != KIND_REPLIES {
        return Err(Malformed("replies are expected"));
    }
    let stored_bytes = frame.try_get_u64().map_err(short)?;
    let count = frame.try_get_u32().map_err(short)? as usize;
    if count > frame.len() / REPLY_BYTES_MIN {
        return Err(Malformed("it is too short"));
    }
    let mut replies = Vec::with_capacity(count);
    for _ in 0..count {
        if frame.len() < REPLY_BYTES_MIN {
            return Err(Malformed("it is too short"));
        }
        let id = get_id(&mut frame);
        let (broker_epoch, leader_epoch) = (frame.get_i64(), LeaderEpoch(frame.get_i32()));
        let body = match frame.get_u8() {
            BODY_DURABLE => ReplyBody::Durable { end: Offset(frame.try_get_i64().map_err(short)?) },
            BODY_POSITION => {
                let has_round = frame.try_get_u8().map_err(short)? != 0;
                let round = frame.try_get_u32().map_err(short)?;
                ReplyBody::Position {
                    round: has_round.then_some(round),
                    epoch: LeaderEpoch(frame.try_get_i32().map_err(short)?),
                    end: Offset(frame.try_get_i64().map_err(short)?),
                }
            }
            BODY_STALE_LEADER => ReplyBody::StaleLeader,
            _ => return Err(Malformed("a reply of unknown kind")),
        };
        replies.push(PartitionReply { id, reply: Reply { broker_epoch, leader_epoch, body } });
    }
    match frame.is_empty() {
        true => Ok(Replies { stored_bytes, replies }),
        false => Err(Malformed("something follows the replies")),
    }
}

fn put_id(out: &mut BytesMut, id: &TopicIdPartition) {
    out.extend_from_slice(id.topic_id.as_bytes());
    out.put_i32(id.partition.0);
}

/// The caller has seen to it that there is enough.
fn get_id(from: &mut Bytes) -> TopicIdPartition {
    let mut topic_id = [0; 16];
    from.copy_to_slice(&mut topic_id);
    TopicIdPartition::new(Uuid::from_bytes(topic_id), PartitionId(from.get_i32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: i32) -> TopicIdPartition {
        TopicIdPartition::new(Uuid::from_u128(n as u128), PartitionId(n))
    }

    fn append(n: i64) -> Append {
        Append {
            leader_epoch: LeaderEpoch(n as i32),
            round: 3,
            previous_end: Offset(n),
            previous_epoch: LeaderEpoch::UNKNOWN,
            high_watermark: Offset(n + 1),
            log_start_offset: Offset(n + 2),
            log_end_offset: Offset(n + 3),
        }
    }

    fn appends_frame() -> Bytes {
        let mut builder = AppendsBuilder::default();
        builder.put(
            id(1),
            &append(7),
            Offset(9),
            vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")].into(),
        );
        builder.put(id(2), &append(8), Offset(8), Few::new());
        let size = builder.bytes();
        let frame = Bytes::from(builder.finish().concat());
        assert_eq!(frame.len(), size);
        frame
    }

    fn replies() -> Replies {
        let bodies = [
            ReplyBody::Durable { end: Offset(5) },
            ReplyBody::Position { round: Some(4), epoch: LeaderEpoch(2), end: Offset(6) },
            ReplyBody::Position { round: None, epoch: LeaderEpoch::UNKNOWN, end: Offset(0) },
            ReplyBody::StaleLeader,
        ];
        let reply = |body| Reply { broker_epoch: 12, leader_epoch: LeaderEpoch(3), body };
        let replies = bodies.map(|body| PartitionReply { id: id(4), reply: reply(body) });
        Replies { stored_bytes: 1 << 33, replies: replies.to_vec() }
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let appends = decode_appends(appends_frame()).unwrap();
        assert_eq!(appends.len(), 2);
        assert_eq!(
            (appends[0].id, appends[0].append, appends[0].consumers_from),
            (id(1), append(7), Offset(9))
        );
        assert_eq!((&appends[0].batches[..], &appends[1].batches[..]), (&b"abc"[..], &b""[..]));
        assert_eq!(decode_replies(encode_replies(&replies())).unwrap(), replies());
    }

    #[test]
    fn frames_that_are_cut_or_go_on_or_lie_about_their_counts_are_refused() {
        let (appends, replies) = (appends_frame(), encode_replies(&replies()));
        for len in 0..appends.len() {
            assert!(decode_appends(appends.slice(..len)).is_err(), "{len}");
        }
        for len in 0..replies.len() {
            assert!(decode_replies(replies.slice(..len)).is_err(), "{len}");
        }
        assert!(decode_appends(Bytes::from([&appends[..], b"x"].concat())).is_err());
        assert!(decode_replies(Bytes::from([&replies[..], b"x"].concat())).is_err());
        assert!(decode_appends(replies.clone()).is_err() && decode_replies(appends.clone()).is_err());
        for (frame, count_at) in [(&appends, 1), (&replies, 9)] {
            let mut many = frame.to_vec();
            many[count_at..count_at + 4].fill(0xff);
            let many = Bytes::from(many);
            assert!(decode_appends(many.clone()).is_err() && decode_replies(many).is_err());
        }
    }
}
