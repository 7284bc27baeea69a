//! The active controller: commands in, records out, one after the other.
//!
//! It decides on an image of its own that is ahead of everybody else's: a command is decided on top of all that were decided before, also of those whose
//! entries are not committed yet. The journal writes what has gathered while it was writing, so a burst of commands shares a sync. Answers (refusals
//! too, because they may follow from a change that is not committed yet) are given when everything is committed that was decided up to them.
//!
//! Who is deposed drops that image and all that is under way: the entries may still be committed by the next controller, or never, and the answer
//! to who waits is that this is not the controller. Whoever takes office begins with everything that is committed.

use std::cell::RefCell;
use std::rc::Rc;

use coord::CoordError;
use coord::metadata::decide::ClusterView;
use coord::metadata::{BrokerSessions, DecideContext, Decision, MetadataImage, encode_entry};
use coord::planted::Planted;
use coord::quorum::LogPosition;
use coord::types::BrokerId;
use tokio::sync::watch;

use super::ControllerError;
use super::quorum::Quorum;
use crate::runtime::{self, monotonic_ms};
use crate::shard::Shard;

/// The way to the controller from its own shard.
pub struct Controller {
    shard: Rc<Shard>,
    quorum: Rc<Quorum>,
    office: RefCell<Option<Office>>,
    is_active: watch::Sender<bool>,
}

/// What the active controller has and nobody else.
struct Office {
    term: u64,
    /// After everything that was decided.
    image: MetadataImage,
    /// The last entry that was decided.
    last: LogPosition,
    sessions: BrokerSessions,
}

/// What was decided, and the entry with which it is committed.
pub type Committed<R> = (R, u64);

impl Controller {
    /// A controller that is not active yet.
    pub fn new(shard: &Rc<Shard>, quorum: &Rc<Quorum>) -> Controller {
        Controller {
            shard: Rc::clone(shard),
            quorum: Rc::clone(quorum),
            office: RefCell::new(None),
            is_active: watch::Sender::new(false),
        }
    }

    /// Becomes the active controller of a term; `image` is after everything that is committed.
    pub(super) fn take_office(&self, term: u64, image: MetadataImage) {
        let last = self.quorum.applied();
        let sessions = BrokerSessions::new(monotonic_ms());
        self.office.replace(Some(Office { term, image, last, sessions }));
        tracing::info!(term, "this node is the active controller");
        self.is_active.send_replace(true);
        super::duties::begin(&self.shard, term);
    }

    /// Decides nothing any more.
    pub(super) fn leave_office(&self) {
        if self.office.take().is_some() {
            self.is_active.send_replace(false);
            tracing::info!("this node is not the active controller any more");
        }
    }

    /// The term in which it is active.
    pub fn term(&self) -> Option<u64> {
        let office = self.office.borrow();
        office.as_ref().map(|office| office.term).filter(|term| self.quorum.office() == Some(*term))
    }

    /// Waits until it is active.
    pub fn active(&self) -> impl Future<Output = ()> + use<> {
        let mut is_active = self.is_active.subscribe();
        async move {
            // The sender lives as long as the broker.
            let _ = is_active.wait_for(|is_active| *is_active).await;
        }
    }

    /// Looks at what was decided; none if it is not active.
    pub fn look<R>(&self, look: impl FnOnce(&MetadataImage, &mut BrokerSessions) -> R) -> Option<R> {
        self.term()?;
        let mut office = self.office.borrow_mut();
        office.as_mut().map(|office| look(&office.image, &mut office.sessions))
    }

    /// A heartbeat of a broker has come.
    pub fn heard(&self, broker: BrokerId, broker_epoch: i64) {
        self.look(|image, sessions| sessions.heard_from(image, broker, broker_epoch, monotonic_ms()));
    }

    /// Decides, and answers when that is committed, with the entry's index. The command is carried out whether or not the answer is awaited.
    pub fn commit<R, F>(
        &self,
        decide: F,
    ) -> impl Future<Output = Result<Committed<R>, ControllerError>> + use<R, F>
    where
        F: FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Result<Decision<R>, CoordError>,
    {
        let decided = self.decide(decide);
        let committed = decided.as_ref().ok().map(|(_, last)| self.quorum.committed(*last));
        async move {
            let (outcome, _) = decided?;
            let index = committed.expect("there is a decision").await?;
            Ok((outcome.map_err(ControllerError::Refused)?, index))
        }
    }

    /// Like [`Controller::commit`], for decisions about replicas.
    pub fn commit_view<R, F>(
        &self,
        decide: F,
    ) -> impl Future<Output = Result<Committed<R>, ControllerError>> + use<R, F>
    where
        F: FnOnce(ClusterView<'_>) -> Result<Decision<R>, CoordError>,
    {
        let live = self.shard.live();
        self.commit(move |image: &MetadataImage, _: &mut DecideContext<'_>| {
            decide(ClusterView { image, defaults: &live.topic_defaults, planted: Planted::default() })
        })
    }

    /// Decides, and proposes what follows; with the entry after which the outcome may be told.
    fn decide<R>(
        &self,
        decide: impl FnOnce(&MetadataImage, &mut DecideContext<'_>) -> Result<Decision<R>, CoordError>,
    ) -> Result<(Result<R, CoordError>, LogPosition), ControllerError> {
        let term = self.term().ok_or(ControllerError::NotActive)?;
        let mut office = self.office.borrow_mut();
        let office =
            office.as_mut().filter(|office| office.term == term).ok_or(ControllerError::NotActive)?;
        let decision = match decide(&office.image, &mut DecideContext { random: &mut runtime::random_bits }) {
            Ok(decision) => decision,
            Err(refusal) => return Ok((Err(refusal), office.last)),
        };
        if !decision.records.is_empty() {
            let position = self.quorum.propose(encode_entry(&decision.records))?;
            office.last = position;
            if let Err(error) = office.image.replay_all(&decision.records) {
                // What is proposed cannot be taken back, and no node could replay it.
                let error = ControllerError::Failed(error.to_string());
                self.shard.fail(&error);
                return Err(error);
            }
        }
        Ok((Ok(decision.reply), office.last))
    }
}
