//! The shard's store from outside: what was acknowledged is there, whatever happens to the machine.

mod basics;
mod crash;
mod harness;
