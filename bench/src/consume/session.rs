//! A fetch session of one connection (KIP-227): the first request names all partitions, later ones only those whose position moved.
//!
//! With thousands of partitions of which few have data, that keeps requests and answers small. A pure core: positions in,
//! partitions to name out.

use std::collections::BTreeMap;

/// Session id and epoch of a request that opens a session.
const OPENING: (i32, i32) = (0, 0);

/// What the connection reads, and what the broker knows of it.
#[derive(Debug)]
pub struct Session {
    id: i32,
    epoch: i32,
    /// Next offset of each partition, and whether the broker has been told.
    positions: BTreeMap<i32, (i64, bool)>,
}

impl Session {
    /// A session that is to be opened, from these positions.
    pub fn new(positions: impl IntoIterator<Item = (i32, i64)>) -> Session {
        let positions =
            positions.into_iter().map(|(partition, offset)| (partition, (offset, false))).collect();
        Session { id: OPENING.0, epoch: OPENING.1, positions }
    }

    /// Session id and epoch of the next request.
    pub fn identity(&self) -> (i32, i32) {
        (self.id, self.epoch)
    }

    /// The partitions that the next request names, with their positions; from here on the broker knows them.
    pub fn name_partitions(&mut self) -> Vec<(i32, i64)> {
        let opening = (self.id, self.epoch) == OPENING;
        let mut named = Vec::new();
        for (partition, (offset, told)) in &mut self.positions {
            if opening || !*told {
                named.push((*partition, *offset));
                *told = true;
            }
        }
        named
    }

    /// The broker answered with this session id.
    pub fn answered(&mut self, session_id: i32) {
        if session_id == 0 {
            // The broker keeps no session for us: everything is named every time.
            (self.id, self.epoch) = OPENING;
        } else if self.id == session_id {
            // Epochs run from 1 to the largest and start again at 1 (`FetchMetadata.nextEpoch`).
            self.epoch = self.epoch.checked_add(1).unwrap_or(1);
        } else {
            (self.id, self.epoch) = (session_id, 1);
        }
    }

    /// The broker lost the session: open another.
    pub fn reopen(&mut self) {
        (self.id, self.epoch) = OPENING;
    }

    /// The next offset of a partition, if the session reads it.
    pub fn position(&self, partition: i32) -> Option<i64> {
        self.positions.get(&partition).map(|(offset, _)| *offset)
    }

    /// Reading goes on at `offset`.
    pub fn advance(&mut self, partition: i32, offset: i64) {
        self.positions.insert(partition, (offset, false));
    }

    /// All positions.
    pub fn positions(&self) -> impl Iterator<Item = (i32, i64)> + '_ {
        self.positions.iter().map(|(partition, (offset, _))| (*partition, *offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_first_request_only_partitions_that_moved_are_named() {
        let mut session = Session::new([(0, 10), (1, 20), (2, 30)]);
        assert_eq!(session.identity(), (0, 0));
        assert_eq!(session.name_partitions().len(), 3);
        session.answered(77);
        session.advance(1, 25);
        assert_eq!(session.identity(), (77, 1));
        assert_eq!(session.name_partitions(), [(1, 25)]);
        session.answered(77);
        assert_eq!(session.identity(), (77, 2));
        assert_eq!(session.name_partitions(), []);
        assert_eq!(session.position(1), Some(25));
    }

    #[test]
    fn a_broker_without_sessions_is_told_everything_each_time() {
        let mut session = Session::new([(0, 10), (1, 20)]);
        session.name_partitions();
        session.answered(0);
        assert_eq!(session.identity(), (0, 0));
        assert_eq!(session.name_partitions().len(), 2);
    }

    #[test]
    fn a_lost_session_is_opened_again_with_all_partitions() {
        let mut session = Session::new([(0, 10), (1, 20)]);
        session.name_partitions();
        session.answered(5);
        session.reopen();
        assert_eq!(session.identity(), (0, 0));
        assert_eq!(session.name_partitions(), [(0, 10), (1, 20)]);
    }
}
