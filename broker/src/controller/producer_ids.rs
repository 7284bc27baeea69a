//! Producer ids, from a block that the shard holds; a new block is fetched when it is used up.
//!
//! Ids of a block that are left at a stop are never used: there are 2^63.

use std::cell::Cell;
use std::rc::Rc;

use coord::metadata::decide::ProducerIdBlock;
use coord::types::ProducerId;
use tokio::sync::Mutex;

use super::{ControllerError, commands};
use crate::shard::Shard;

/// One shard's ids.
#[derive(Default)]
pub struct ProducerIds {
    block: Cell<Option<ProducerIdBlock>>,
    /// Held by whoever fetches the next block.
    refill: Mutex<()>,
}

impl ProducerIds {
    /// An id that no producer has had.
    pub async fn next(&self, shard: &Rc<Shard>) -> Result<ProducerId, ControllerError> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let _only_one = self.refill.lock().await;
            if self.is_empty() {
                self.block.set(Some(commands::producer_id_block(shard).await?));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.block.get().is_none_or(|block| block.count == 0)
    }

    fn take(&self) -> Option<ProducerId> {
        let block = self.block.get().filter(|block| block.count > 0)?;
        let rest = ProducerIdBlock { first: ProducerId(block.first.0 + 1), count: block.count - 1 };
        self.block.set(Some(rest));
        Some(block.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gives_each_of_its_ids_once() {
        let ids = ProducerIds::default();
        assert_eq!(ids.take(), None);
        ids.block.set(Some(ProducerIdBlock { first: ProducerId(7000), count: 3 }));
        let taken: Vec<i64> = std::iter::from_fn(|| ids.take()).map(|id| id.0).collect();
        assert_eq!(taken, [7000, 7001, 7002]);
        assert!(ids.is_empty());
    }
}
