//! The cluster's metadata: one log that a quorum of controllers agrees on, one active controller that decides what comes next, and how every shard of every
//! node hears of it.
//!
//! - [`quorum`]: this node's side of the quorum: the shell of `coord::quorum` on shard 0, with [`journal`] (what it has on disk) and [`peers`] (its
//!   messages to other nodes);
//! - [`apply`]: what is committed reaches the shards, one entry after the other; [`publish`]: what a shard does with it;
//! - [`active`]: decides on commands, if this node is the active controller; [`duties`]: what it does of itself;
//! - [`control`]: requests of other nodes to the active controller, and this node's own; [`registration`]: those that only brokers send;
//! - [`membership`]: this broker registers, is alive, asks for leave;
//! - [`contact`]: whether it hears an active controller, and whom it reaches if not;
//! - [`commands`]: what handlers on any shard ask of the controller;
//! - [`start`]: loading at start, before clients are let in; [`identity`]: whose data directory it is;
//! - [`producer_ids`]: a shard's block of producer ids;
//! - [`voters`]: who votes in the quorum, and with which data directory;
//! - [`metrics`]: what operators watch.
//!
//! A node by itself is a quorum of one: it elects itself at its start, has no links, no ticks and no heartbeats, and an entry is committed when it is in its
//! own journal.

pub mod active;
pub mod apply;
pub mod commands;
pub mod contact;
pub mod control;
pub mod duties;
pub mod identity;
pub mod journal;
pub mod membership;
pub mod metrics;
pub mod peers;
pub mod producer_ids;
pub mod publish;
pub mod quorum;
pub mod registration;
pub mod start;
pub mod voters;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use coord::CoordError;
use coord::metadata::{MetadataImage, MetadataRecord, ReplayError};
use coord::quorum::{LeaderChange, QuorumError};
use protocol::ErrorCode;
use tokio::sync::watch;
use uuid::Uuid;

pub use active::Controller;
pub use commands::{
    alter_configs, alter_partition, auto_create, create_partitions, create_topics, delete_topics,
    elect_leaders, reassign_partitions, unregister_broker, update_features,
};
pub use producer_ids::ProducerIds;
pub use quorum::Quorum;

use crate::placement::ShardId;

/// The listener that clients use; the only one so far.
pub const CLIENT_LISTENER: &str = "PLAINTEXT";

/// Kafka's number of the protocol without encryption or authentication.
pub(crate) const PLAINTEXT: i16 = 0;

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
    /// Another node is the active controller, or none: whether the command is carried out is not known.
    #[error("this node is not the active controller, or is not any more")]
    NotActive,
    /// Too much waits for a majority.
    #[error("the metadata quorum takes no further changes at the moment")]
    Busy,
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
            // Retriable: the client looks for the controller anew, or comes again.
            ControllerError::NotActive | ControllerError::Busy | ControllerError::Stopped => {
                ErrorCode::NOT_CONTROLLER
            }
        }
    }
}

impl From<QuorumError> for ControllerError {
    fn from(error: QuorumError) -> Self {
        match error {
            QuorumError::NotLeader { .. } => ControllerError::NotActive,
            QuorumError::Busy | QuorumError::ChangeInProgress | QuorumError::NotCaughtUp(_) => {
                ControllerError::Busy
            }
            QuorumError::InvalidChange(..) => {
                ControllerError::Refused(CoordError::InvalidRequest(error.to_string()))
            }
            QuorumError::Damaged(problem) => ControllerError::Failed(problem),
        }
    }
}

/// What one shard has of the metadata. The image is empty until [`start::load`] has filled it.
#[derive(Default)]
pub struct ShardMetadata {
    image: RefCell<Rc<MetadataImage>>,
    /// This shard's producer ids.
    pub producer_ids: ProducerIds,
    /// Who leads the quorum, as this shard was told last.
    leadership: Cell<LeaderChange>,
    // What follows is used on shard 0 only.
    quorum: OnceCell<Rc<Quorum>>,
    controller: OnceCell<Controller>,
    /// How far this node's shards have come with what is committed.
    pub applied: apply::Applied,
    control: control::ControlLinks,
    /// This broker's registration.
    pub membership: membership::Membership,
    /// The id of this node's data directory.
    directory_id: Cell<Uuid>,
    /// Whether the image has been loaded.
    is_loaded: watch::Sender<bool>,
    /// Shards that follow what is published.
    open_shards: Cell<usize>,
}

impl ShardMetadata {
    /// The metadata that this shard has heard of. Do not hold it across a wait: a change would have to copy the image.
    pub fn image(&self) -> Rc<MetadataImage> {
        Rc::clone(&self.image.borrow())
    }

    /// Who leads the quorum: the active controller.
    pub fn leadership(&self) -> LeaderChange {
        self.leadership.get()
    }

    /// The broker that clients are told to be the controller: any takes what is meant for the controller, but the active one saves a step.
    pub fn controller_id(&self, image: &MetadataImage) -> i32 {
        let active = self.leadership.get().leader;
        let shown = image.brokers().filter(|broker| !broker.fenced).map(|broker| broker.id);
        let mut shown = shown.peekable();
        let first = shown.peek().copied();
        shown.find(|id| *id == active).or(first).map_or(-1, |id| id.0)
    }

    /// This node's side of the quorum; only shard 0 has it.
    pub fn quorum(&self) -> Option<Rc<Quorum>> {
        self.quorum.get().cloned()
    }

    /// Whether this node is the active controller; only shard 0 knows.
    pub fn is_active(&self) -> bool {
        self.controller.get().is_some_and(|controller| controller.term().is_some())
    }

    fn leave_office(&self) {
        if let Some(controller) = self.controller.get() {
            controller.leave_office();
        }
    }

    /// Changes the image.
    fn replay(&self, record: &MetadataRecord) -> Result<(), ReplayError> {
        Rc::make_mut(&mut self.image.borrow_mut()).replay(record)
    }

    /// Puts another image in the place of this one.
    fn replace(&self, image: Rc<MetadataImage>) {
        self.image.replace(image);
    }
}
