//! The quorum's node, its journal, and the image that follows from its log.

use bytes::Bytes;
use coord::config::replication_config;
use coord::metadata::{MetadataImage, TopicImage, decode_entry, encode_entry};
use coord::quorum::{CommittedEntry, Output, QuorumMessage};
use coord::replica::PartitionState;
use coord::types::BrokerId;
use storage::TopicIdPartition;

use super::{Env, Message, Out, Process, Registration};
use crate::simulator::store::Wanted;

/// An image as the data of a snapshot.
pub fn encode_image(image: &MetadataImage) -> Bytes {
    encode_entry(&image.snapshot()).into()
}

/// The image of a snapshot's data; an empty one at the beginning of a cluster.
pub fn decode_image(data: &Bytes) -> MetadataImage {
    let mut image = MetadataImage::new();
    if !data.is_empty() {
        let records = decode_entry(data).expect("snapshots are encoded here");
        image.replay_all(&records).expect("a snapshot is a whole image");
    }
    image
}

impl Process {
    pub(super) fn quorum_received(&mut self, peer: BrokerId, bytes: &Bytes, env: &mut Env<'_>) {
        let message = QuorumMessage::decode(bytes).expect("messages are encoded here");
        if message.is_snapshot() {
            self.send(peer, Message::SnapshotArrived, env);
        }
        self.quorum.receive(peer, message).expect("it is for this node and from that one");
    }

    /// Does everything that the quorum's node wants done.
    pub(super) fn carry_out_quorum(&mut self, env: &mut Env<'_>) {
        loop {
            let output = self.quorum.output();
            if output.is_empty() {
                return;
            }
            let Output { persist, messages, snapshot, committed, wants_snapshot, leader } = output;
            persist.into_iter().for_each(|persist| env.journal.push(persist));
            if let Some(snapshot) = snapshot {
                env.trace
                    .note(|| format!("broker {} restores a snapshot at {:?}", self.id, snapshot.position));
                env.oracle.count("quorum snapshots restored", 1);
                self.image = decode_image(&snapshot.data);
                self.image_changed(env);
            }
            for entry in &committed {
                self.apply(entry, env);
            }
            if let Some(change) = leader
                && change.leader.is_some()
            {
                env.oracle.quorum_leads(change.term, change.leader);
                env.trace.note(|| {
                    format!("broker {} sees controller {} of term {}", self.id, change.leader, change.term)
                });
            }
            if wants_snapshot {
                self.quorum.snapshot_taken(encode_image(&self.image));
            }
            for message in messages {
                let to = message.to();
                if message.is_snapshot() && !self.connected.contains_key(&to) {
                    self.quorum.snapshot_sent(to, false);
                } else if message.is_snapshot() {
                    self.snapshots_sent.insert(to);
                }
                self.send(to, Message::Quorum(message.encode().into()), env);
            }
            env.oracle.image_at(self.id, self.quorum.applied().index, &self.image);
        }
    }

    fn apply(&mut self, entry: &CommittedEntry, env: &mut Env<'_>) {
        env.oracle.entry_committed(self.id, entry);
        if !entry.data.is_empty() {
            let records = decode_entry(&entry.data).expect("entries are encoded here");
            if let Err(error) = self.image.replay_all(&records) {
                env.oracle.fail(None, format!("broker {}: {error}", self.id));
            }
            env.trace.note(|| format!("broker {} applies {:?} {records:?}", self.id, entry.position));
            self.image_changed(env);
        }
        self.decision_applied(entry.position, env);
    }

    /// Replicas hear of the metadata once this process is registered; before, it speaks of an earlier one.
    fn image_changed(&mut self, env: &mut Env<'_>) {
        let registered =
            self.image.broker(self.id).filter(|broker| broker.incarnation_id == self.incarnation_id);
        match (registered.map(|broker| broker.broker_epoch), self.registration) {
            (None, Registration::Unknown) => return,
            (Some(epoch), Registration::Unknown) => {
                env.trace.note(|| format!("broker {} is registered with epoch {epoch}", self.id));
                self.registration = Registration::Registered(epoch);
                let wanted: Vec<Wanted> = self.mine().into_iter().map(|(wanted, ..)| wanted).collect();
                env.store.open(&wanted);
            }
            (Some(epoch), Registration::Registered(known)) if epoch == known => {}
            _ => {
                env.out.push(Out::Exit("its registration has been replaced"));
                return;
            }
        }
        if self.has_logs {
            self.follow_image(env);
        }
    }

    /// Replicas come, go and hear of their state. There are logs.
    pub(super) fn follow_image(&mut self, env: &mut Env<'_>) {
        let mine = self.mine();
        let is_mine = |id: &TopicIdPartition| mine.iter().any(|(wanted, ..)| wanted.id == *id);
        let gone: Vec<TopicIdPartition> = self.partitions.keys().copied().filter(|id| !is_mine(id)).collect();
        for id in gone {
            self.remove_partition(id, env);
        }
        self.tell_topics(env);
        for (wanted, state, is_group_home) in mine {
            if env.store.has(wanted.id) {
                self.partition_changed(wanted.id, &state, is_group_home, env);
            } else if self.creating.insert(wanted.id) {
                env.store.create(&wanted);
            }
        }
    }

    /// A log is there. What has happened to its partition meanwhile may have taken it away again.
    pub(super) fn log_created(&mut self, id: TopicIdPartition, env: &mut Env<'_>) {
        self.creating.remove(&id);
        match self.mine().into_iter().find(|(wanted, ..)| wanted.id == id) {
            Some((_, state, is_group_home)) => self.partition_changed(id, &state, is_group_home, env),
            None => env.store.delete(id),
        }
    }

    /// The partitions that this broker has a replica of.
    fn mine(&self) -> Vec<(Wanted, PartitionState, bool)> {
        self.image.topics().flat_map(|topic| self.states(topic)).collect()
    }

    /// What this topic's partitions that this broker has look like.
    fn states(&self, topic: &TopicImage) -> Vec<(Wanted, PartitionState, bool)> {
        let min_insync_replicas = replication_config(&topic.configs, &self.defaults).min_insync_replicas;
        let broker = |id| self.image.broker(id).map(|broker| (broker.broker_epoch, !broker.fenced));
        topic
            .indexed_partitions()
            .filter(|(_, partition)| partition.replicas.contains(&self.id))
            .map(|(index, partition)| {
                let wanted = Wanted {
                    id: TopicIdPartition::new(topic.id, index),
                    topic: topic.name.to_string(),
                    leader_epoch: partition.leader_epoch,
                };
                (wanted, PartitionState::new(partition, min_insync_replicas, broker), topic.is_internal())
            })
            .collect()
    }
}
