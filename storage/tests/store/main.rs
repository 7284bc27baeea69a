//! The shard's store from outside: what was acknowledged is there, whatever happens to the machine.

mod basics;
mod cold;
mod compaction;
mod compaction_crash;
mod compaction_readers;
mod crash;
mod cut_readers;
mod damage;
#[allow(clippy::disallowed_methods, reason = "one of them measures")]
mod direct;
mod failing;
mod gentle;
mod harness;
mod keyed;
mod large;
mod moved;
mod replica;
mod shards;
mod slowing;
mod trim;
