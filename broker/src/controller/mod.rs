//! The controller: the one place where the cluster's metadata changes, and how every shard hears of it.
//!
//! - [`active`]: decides on commands one after the other, makes their records durable, publishes them; lives on shard 0;
//! - [`log`]: the metadata log on disk, and its snapshots;
//! - [`publish`]: what a shard does with new records: partition logs, then its image;
//! - [`start`]: loading at start, before clients are let in;
//! - [`identity`]: whose data directory it is;
//! - [`producer_ids`]: a shard's block of producer ids;
//! - [`commands`]: what handlers on any shard ask of the controller.
//!
//! With one node the metadata log stands in for the quorum's log: decide → record → replay is the same.

pub mod active;
pub mod commands;
pub mod identity;
pub mod log;
pub mod producer_ids;
pub mod publish;
pub mod start;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use coord::CoordError;
use coord::metadata::{MetadataImage, MetadataRecord, ReplayError};
use protocol::ErrorCode;
use tokio::sync::watch;

pub use active::Controller;
pub use commands::{
    alter_configs, auto_create, create_partitions, create_topics, delete_topics, unregister_broker,
    update_features,
};
pub use producer_ids::ProducerIds;

use crate::placement::ShardId;

/// The listener that clients use; the only one so far.
pub const CLIENT_LISTENER: &str = "PLAINTEXT";

/// Where the controller lives.
pub const CONTROLLER_SHARD: ShardId = ShardId(0);

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControllerError {
    /// The command itself is at fault.
    #[error(transparent)]
    Refused(#[from] CoordError),
    /// The metadata log, or a shard's disk, failed: the broker is about to stop.
    #[error("the metadata could not be made durable: {0}")]
    Failed(String),
    /// The controller has stopped.
    #[error("the controller has stopped")]
    Stopped,
}

impl ControllerError {
    /// The error code that a client gets.
    pub fn code(&self) -> ErrorCode {
        match self {
            ControllerError::Refused(error) => error.code(),
            ControllerError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            ControllerError::Stopped => ErrorCode::NOT_CONTROLLER,
        }
    }
}

/// What one shard has of the metadata. The image is empty until [`start::load`] has filled it.
#[derive(Default)]
pub struct ShardMetadata {
    image: RefCell<Rc<MetadataImage>>,
    /// This shard's producer ids.
    pub producer_ids: ProducerIds,
    controller: OnceCell<Controller>,
    /// Whether the metadata log has been read; only shard 0 sets it.
    is_loaded: watch::Sender<bool>,
}

impl ShardMetadata {
    /// The metadata that this shard has heard of. Do not hold it across a wait: a change would have to copy the image.
    pub fn image(&self) -> Rc<MetadataImage> {
        Rc::clone(&self.image.borrow())
    }

    /// Changes the image.
    fn replay(&self, record: &MetadataRecord) -> Result<(), ReplayError> {
        Rc::make_mut(&mut self.image.borrow_mut()).replay(record)
    }
}
