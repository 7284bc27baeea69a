//! The journal on the simulated disk.

mod crash;
mod damage;
mod harness;
mod running;
