//! Counts and latencies by request type.

use std::cell::RefCell;
use std::time::Duration;

use super::{Histogram, Samples};

/// Request types have keys below this; anything else was refused before it got here.
const KEYS: usize = 128;

/// One shard's requests by type.
#[derive(Debug)]
pub struct RequestMetrics {
    by_key: RefCell<Vec<Option<Histogram>>>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        RequestMetrics { by_key: RefCell::new(vec![None; KEYS]) }
    }
}

impl RequestMetrics {
    /// Counts a request that took so long from its receipt until its answer's turn.
    pub fn record(&self, api_key: i16, took: Duration) {
        let mut by_key = self.by_key.borrow_mut();
        if let Some(slot) = usize::try_from(api_key).ok().and_then(|key| by_key.get_mut(key)) {
            slot.get_or_insert_default().record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Adds count and latency quantiles of each type that has occurred.
    pub fn collect(&self, samples: &mut Samples) {
        for (key, histogram) in self.by_key.borrow().iter().enumerate() {
            let Some(histogram) = histogram else { continue };
            let labels = [("request", crate::api::name_of(key as i16))];
            samples.counter(
                "kafka_network_requestmetrics_requests_total",
                "Requests by type.",
                &labels,
                histogram.count(),
            );
            samples.summary(
                "kafka_network_requestmetrics_totaltimems",
                "Milliseconds from a request's receipt until its answer's turn to be sent.",
                &labels,
                histogram,
                1e-3,
            );
        }
    }
}
