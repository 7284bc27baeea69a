//! What a follower does: stores what continues its log, and acknowledges what is on disk.

use storage::Offset;

use super::follower::{AppendOutcome, Fit, Fitting, Follower, LeaderPositions, fit};
use super::message::{Append, BatchSpan, ReplyBody};
use super::partition::{Effect, Replica, State};
use crate::planted::PlantedBug;
use crate::types::BrokerId;

impl Replica {
    /// The leader's message, with the batches in it. What the outcome says is as good as done: the shell must do it before the next input, and stop if it cannot.
    pub fn append_received(
        &mut self,
        from: BrokerId,
        append: &Append,
        batches: &[BatchSpan],
        effects: &mut Vec<Effect>,
    ) -> AppendOutcome {
        let accepts_stale = self.config.planted.has(PlantedBug::StaleLeaderAccepted);
        if append.leader_epoch > self.leader_epoch {
            effects.push(Effect::MetadataBehind(append.leader_epoch));
            return AppendOutcome::Refused;
        }
        if append.leader_epoch < self.leader_epoch && !accepts_stale {
            effects.push(self.reply_to(from, ReplyBody::StaleLeader));
            return AppendOutcome::Refused;
        }
        let State::Follower(Follower { match_end: proved, .. }) = self.state else {
            return AppendOutcome::Refused;
        };
        let fitting = match fit(&self.log, proved, append, batches) {
            Fit::Fits(fitting) => fitting,
            Fit::Malformed(problem) => return AppendOutcome::Corrupt(problem),
            Fit::Position(epoch, end) => {
                self.reply(ReplyBody::Position { round: Some(append.round), epoch, end }, effects);
                return AppendOutcome::Refused;
            }
        };
        let Fitting { restart_at, truncate_to, skip, .. } = fitting;
        let cut = truncate_to.or(restart_at.filter(|at| *at < self.log.end()));
        if let Some(problem) = cut.and_then(|to| self.cannot_give_up(to)) {
            return AppendOutcome::Corrupt(problem);
        }
        self.store(restart_at, truncate_to, &batches[skip..]);
        let log_start_offset = self.learn(append, &fitting, effects);
        if batches.is_empty() || skip == batches.len() || self.planted_ack() {
            self.acknowledge(true, effects);
        }
        AppendOutcome::Store { restart_at, truncate_to, skip, log_start_offset }
    }

    fn planted_ack(&self) -> bool {
        self.config.planted.has(PlantedBug::AckBeforeSync)
    }

    /// Why the log cannot be truncated to `to`, if it cannot. (After an unclean election the high watermark does not count.)
    fn cannot_give_up(&self, to: Offset) -> Option<&'static str> {
        let State::Follower(follower) = &self.state else { return None };
        if follower.match_end.is_some_and(|end| to < end) {
            return Some("a leader contradicts what it has sent in the same epoch");
        }
        (to < self.high_watermark).then_some("a leader lacks committed records")
    }

    fn store(&mut self, restart_at: Option<Offset>, truncate_to: Option<Offset>, batches: &[BatchSpan]) {
        if let Some(at) = restart_at {
            self.log.restart_at(at);
            self.high_watermark = at;
        }
        if let Some(to) = truncate_to {
            self.log.truncate(to);
            self.high_watermark = self.high_watermark.min(to);
        }
        batches.iter().for_each(|batch| self.log.append(*batch));
    }

    /// What a message that fits tells besides its batches. Returns the new start of the log, if it moves.
    fn learn(&mut self, append: &Append, fitting: &Fitting, effects: &mut Vec<Effect>) -> Option<Offset> {
        let State::Follower(follower) = &mut self.state else { return None };
        follower.leader_positions =
            LeaderPositions { high_watermark: append.high_watermark, log_end_offset: append.log_end_offset };
        let match_end =
            follower.match_end.map_or(fitting.match_end, |earlier| earlier.max(fitting.match_end));
        follower.match_end = Some(match_end);
        let start = append.log_start_offset.min(self.log.end());
        let log_start_offset = (start > self.log.start()).then_some(start);
        self.log.advance_start(start);
        let high_watermark = append.high_watermark.min(match_end);
        if high_watermark > self.high_watermark {
            self.high_watermark = high_watermark;
            effects.push(Effect::HighWatermark(high_watermark));
        }
        self.high_watermark_epoch = append.leader_epoch;
        log_start_offset
    }

    /// Tells the leader what is proved equal to its log and on disk; `always` also if it has heard that before.
    pub(super) fn acknowledge(&mut self, always: bool, effects: &mut Vec<Effect>) {
        let planted = self.config.planted;
        let State::Follower(follower) = &mut self.state else { return };
        let Some(match_end) = follower.match_end else { return };
        let end = if planted.has(PlantedBug::AckBeforeSync) {
            match_end
        } else if planted.has(PlantedBug::AckBeyondMatch) {
            self.log.durable_end()
        } else {
            match_end.min(self.log.durable_end())
        };
        if always || end > follower.acknowledged {
            follower.acknowledged = end;
            self.reply(ReplyBody::Durable { end }, effects);
        }
    }
}
