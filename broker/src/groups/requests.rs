//! A request's way from its handler to the coordinator of its group, which may be on another shard, and back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use coord::group::{GroupCoordinator, GroupReply, Output, RequestContext};
use futures::future::{Either, join_all, select};
use protocol::wire::Few;
use protocol::{Decoder, Encoder, ErrorCode, Request};
use tokio::sync::oneshot;

use super::coordinators::PendingReply;
use super::routing::home_of;
use super::waiting::{Waiting, WaitingRoom};
use crate::api::{Call, Refusal};
use crate::append_queue::AppendQueue;
use crate::partitions::by_owner;
use crate::placement::ShardId;
use crate::shard::Shard;

/// A request on its way to the shard of its coordinator: the body as it came, and who sent it.
#[derive(Debug, Clone)]
pub struct GroupRequest {
    body: Bytes,
    version: i16,
    client_id: String,
    client_address: IpAddr,
}

impl GroupRequest {
    /// The request of `call`.
    pub fn of(call: &Call) -> Self {
        GroupRequest {
            body: call.body(),
            version: call.version,
            client_id: call.client_id().to_owned(),
            client_address: call.client_address(),
        }
    }

    /// The request of `call` with `message` in place of what came.
    pub fn changed<'a>(call: &Call, message: &impl Request<'a>) -> Result<Self, Refusal> {
        let mut encoder = Encoder::new();
        let encoded = message.encode(&mut encoder, call.version);
        encoded.map_err(|error| Refusal::malformed(call.key.name(), error))?;
        Ok(GroupRequest { body: encoder.finish_contiguous(), ..GroupRequest::of(call) })
    }

    /// Reads the body, which the handler has read before.
    pub fn decode<'a, M: Request<'a>>(&'a self) -> M {
        let decoded = M::decode(&mut Decoder::new(&self.body), self.version);
        decoded.expect("the handler has decoded the same bytes")
    }
}

/// Whether a request may have to wait for others of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The answer comes with the coordinator's first output.
    None,
    /// It may come later, or never if the client is gone by then.
    UntilAnswered,
}

/// What a decision has come to for the request that asked for it.
enum Outcome {
    Answered(PendingReply),
    Waits(Waiting),
    Refused(ErrorCode),
}

/// Has the group's coordinator decide on a request. The answer is durable: nothing that it says is lost by a crash. The error is that of the
/// whole request.
pub async fn submit<F>(
    call: &Call,
    group_id: &str,
    patience: Patience,
    request: GroupRequest,
    decide: F,
) -> Result<GroupReply, ErrorCode>
where
    F: FnOnce(&mut GroupCoordinator, &RequestContext<'_>, &GroupRequest) -> Output + Send + 'static,
{
    let home = home_of(&call.shard, group_id)?;
    // Dropped with this future when the client goes away.
    let (_client, client_is_gone) = match patience {
        Patience::None => (None, None),
        Patience::UntilAnswered => {
            let (here, there) = oneshot::channel::<()>();
            (Some(here), Some(there))
        }
    };
    let coordinate = move |shard: &Rc<Shard>| {
        let outcome =
            AppendQueue::call(shard, move |shard| decide_now(shard, home.partition, request, decide));
        settle(Rc::clone(shard), outcome, client_is_gone)
    };
    call.note_call(home.owner);
    call.shard.mesh.call(home.owner, coordinate).await
}

fn decide_now<F>(shard: &Rc<Shard>, partition: i32, request: GroupRequest, decide: F) -> Outcome
where
    F: FnOnce(&mut GroupCoordinator, &RequestContext<'_>, &GroupRequest) -> Output,
{
    let groups = &shard.groups;
    let partition = match groups.partition(partition) {
        Ok(partition) => partition,
        Err(code) => return Outcome::Refused(code),
    };
    let mut state = partition.state.borrow_mut();
    let coordinator = match state.active() {
        Ok(coordinator) => coordinator,
        Err(code) => return Outcome::Refused(code),
    };
    let (token, now_ms) = (groups.next_token(), groups.now_ms());
    groups.tell_topics(&shard.image(), &partition, coordinator, now_ms);
    let context = RequestContext {
        api_version: request.version,
        client_id: &request.client_id,
        client_host: &java_address(request.client_address),
        now_ms,
        token,
    };
    let output = decide(coordinator, &context, &request);
    match groups.carry_out(&partition, coordinator, output, Some(token), now_ms) {
        Some(reply) => Outcome::Answered(reply),
        None => Outcome::Waits(WaitingRoom::enter(shard, partition.index, token)),
    }
}

/// Waits for the answer, and until it is durable.
async fn settle(
    shard: Rc<Shard>,
    outcome: impl Future<Output = Outcome>,
    client_is_gone: Option<oneshot::Receiver<()>>,
) -> Result<GroupReply, ErrorCode> {
    let (reply, kept) = match outcome.await {
        Outcome::Refused(code) => return Err(code),
        Outcome::Answered(reply) => reply,
        Outcome::Waits(waiting) => match client_is_gone {
            None => waiting.await?,
            Some(client_is_gone) => match select(waiting, client_is_gone).await {
                Either::Left((reply, _)) => reply?,
                // Nobody reads what is said here.
                Either::Right(_) => return Err(ErrorCode::NETWORK_EXCEPTION),
            },
        },
    };
    if let Some(kept) = kept {
        kept.wait(&shard).await?;
    }
    Ok(reply)
}

/// Asks a coordinator for something that changes nothing. What it says is durable.
async fn read_partition<R>(
    shard: Rc<Shard>,
    partition: i32,
    look: impl FnOnce(&GroupCoordinator) -> R,
) -> Result<R, ErrorCode> {
    let partition = shard.groups.partition(partition)?;
    let found = look(partition.state.borrow_mut().active()?);
    if let Some(kept) = partition.last_kept() {
        kept.wait(&shard).await?;
    }
    Ok(found)
}

/// Asks the coordinators of many groups, each coordinator once: `look` gets the places in `names` of the groups that are its own, and answers
/// with as many rows. The answer has a row for each name.
pub async fn read_groups<R, F>(call: &Call, names: &[Cow<'_, str>], look: F) -> Vec<Result<R, ErrorCode>>
where
    R: Send + 'static,
    F: Fn(&GroupCoordinator, &[usize]) -> Vec<R> + Clone + Send + 'static,
{
    let shard = &call.shard;
    let mut rows: Vec<Result<R, ErrorCode>> =
        names.iter().map(|_| Err(ErrorCode::UNKNOWN_SERVER_ERROR)).collect();
    let mut by_home: BTreeMap<i32, (ShardId, Vec<usize>)> = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        match home_of(shard, name) {
            Ok(home) => {
                by_home.entry(home.partition).or_insert((home.owner, Vec::new())).1.push(place);
            }
            Err(code) => rows[place] = Err(code),
        }
    }
    let homes = by_home.into_iter().map(|(partition, (owner, places))| (owner, (partition, places)));
    let calls = by_owner(homes).into_iter().map(|(owner, homes)| {
        let look = look.clone();
        shard.mesh.call(owner, move |shard| read_homes(Rc::clone(shard), homes, look))
    });
    for (places, found) in join_all(calls.collect::<Vec<_>>()).await.into_iter().flatten() {
        match found {
            Ok(found) => places.into_iter().zip(found).for_each(|(place, row)| rows[place] = Ok(row)),
            Err(code) => places.into_iter().for_each(|place| rows[place] = Err(code)),
        }
    }
    rows
}

/// Places of groups, and what their coordinator says of them.
type FoundAt<R> = (Vec<usize>, Result<Vec<R>, ErrorCode>);

async fn read_homes<R>(
    shard: Rc<Shard>,
    homes: Few<(i32, Vec<usize>)>,
    look: impl Fn(&GroupCoordinator, &[usize]) -> Vec<R>,
) -> Vec<FoundAt<R>> {
    let mut found = Vec::with_capacity(homes.len());
    for (partition, places) in homes {
        let rows =
            read_partition(Rc::clone(&shard), partition, |coordinator| look(coordinator, &places)).await;
        found.push((places, rows));
        crate::runtime::yield_now().await;
    }
    found
}

/// Asks all coordinators of the broker, in the order of their partitions; one that does not serve is the error of all.
pub async fn read_everywhere<R, F>(shard: &Rc<Shard>, look: F) -> Result<Vec<R>, ErrorCode>
where
    R: Send + 'static,
    F: Fn(&GroupCoordinator) -> R + Clone + Send + 'static,
{
    let read = move |shard: &Rc<Shard>| {
        let shard = Rc::clone(shard);
        async move {
            let mut found = Vec::new();
            for partition in shard.groups.partitions() {
                let index = partition.index;
                match read_partition(Rc::clone(&shard), index, look.clone()).await {
                    Ok(row) => found.push((index, row)),
                    // It has gone meanwhile, and its groups with it.
                    Err(ErrorCode::NOT_COORDINATOR) => {}
                    Err(code) => return Err(code),
                }
                // With many groups this takes a while.
                crate::runtime::yield_now().await;
            }
            Ok(found)
        }
    };
    let of_shards: Result<Vec<_>, ErrorCode> = shard.mesh.call_all(read).await.into_iter().collect();
    let mut found: Vec<(i32, R)> = of_shards?.into_iter().flatten().collect();
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// The coordinator has answered another question than it was asked, which is a fault of ours.
pub fn mismatch(call: &Call, reply: &GroupReply) -> Refusal {
    tracing::error!(request = call.key.name(), ?reply, "a coordinator's answer is of the wrong kind");
    Refusal::new(format!("the coordinator has no answer to {}", call.key.name()))
}

/// An address as Java prints one, which is how Kafka shows a client's host.
fn java_address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("/{address}"),
        IpAddr::V6(address) => {
            let words = address.segments().map(|word| format!("{word:x}"));
            format!("/{}", words.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_look_as_java_prints_them() {
        assert_eq!(java_address("10.0.0.7".parse().unwrap()), "/10.0.0.7");
        assert_eq!(java_address("::1".parse().unwrap()), "/0:0:0:0:0:0:0:1");
        assert_eq!(java_address("::ffff:10.0.0.7".parse().unwrap()), "/10.0.0.7");
    }
}
