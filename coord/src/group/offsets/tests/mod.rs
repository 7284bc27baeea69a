//! Committed offsets: who may commit, what is kept, for how long.

mod commit;
mod expiry;
