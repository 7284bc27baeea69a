//! What the broker counts. Each shard counts in plain cells of its own; `/metrics` asks every shard for [`Samples`] and adds them up.
//!
//! - [`histogram`]: latencies, with a relative error of at most 1/16;
//! - [`samples`]: values on their way to Prometheus' text format;
//! - [`commits`]: how long the journal's commits take;
//! - [`requests`]: counts and latencies by request type;
//! - [`storage`]: the figures of a shard's store.

pub mod commits;
pub mod histogram;
pub mod requests;
pub mod samples;
pub mod storage;

use std::cell::Cell;

pub use commits::CommitMetrics;
pub use histogram::Histogram;
pub use requests::RequestMetrics;
pub use samples::Samples;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get() + amount);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// One shard's own counters; subsystems with state of their own (mesh, budget, storage) are asked directly.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// By request type.
    pub requests: RequestMetrics,
    /// Of the journal.
    pub commits: CommitMetrics,
    /// Record bytes appended by producers.
    pub bytes_in: Counter,
    /// Record bytes handed to consumers.
    pub bytes_out: Counter,
    /// Records appended by producers.
    pub messages_in: Counter,
    /// Partitions of produce requests that were refused.
    pub failed_produce_requests: Counter,
    /// Partitions of fetch requests that were refused.
    pub failed_fetch_requests: Counter,
    /// Record bytes handed to consumers by partitions that this broker follows.
    pub follower_bytes_out: Counter,
    /// How often a consumer was sent to a follower.
    pub preferred_read_replicas: Counter,
}

impl ShardMetrics {
    /// Adds the counters of this shard.
    pub fn collect(&self, shard: &str, samples: &mut Samples) {
        self.requests.collect(samples);
        self.commits.collect(shard, samples);
        let counters = [
            ("bytesin", "Record bytes appended by producers.", &self.bytes_in),
            ("bytesout", "Record bytes handed to consumers.", &self.bytes_out),
            ("messagesin", "Records appended by producers.", &self.messages_in),
            (
                "failedproducerequests",
                "Partitions of produce requests that were refused.",
                &self.failed_produce_requests,
            ),
            (
                "failedfetchrequests",
                "Partitions of fetch requests that were refused.",
                &self.failed_fetch_requests,
            ),
        ];
        let of_followers = [
            (
                "follower_fetch_bytes",
                "Record bytes handed to consumers by partitions that this broker follows.",
                &self.follower_bytes_out,
            ),
            (
                "preferred_read_replicas",
                "Times that consumers were sent to a follower in their rack.",
                &self.preferred_read_replicas,
            ),
        ];
        for (name, help, counter) in of_followers {
            samples.counter(&format!("broker_{name}_total"), help, &[], counter.get());
        }
        for (name, help, counter) in counters {
            samples.counter(
                &format!("kafka_server_brokertopicmetrics_{name}_total"),
                help,
                &[],
                counter.get(),
            );
        }
    }
}
