//! The shard's store from outside: what was acknowledged is there, whatever happens to the machine.

mod basics;
mod crash;
mod damage;
mod direct;
mod harness;
mod shards;
mod trim;
