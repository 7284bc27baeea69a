//! What is served where.

use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::Admin;
use super::http::{Request, Response};
use crate::metrics::Samples;
use crate::runtime::{memory, timeout};
use crate::shard::Shard;

/// A shard that does not answer for so long is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers one request.
pub async fn answer(admin: &Admin, request: Request) -> Response {
    match request.path.as_str() {
        "/" => Response::text(200, "/metrics\n/health/live\n/health/ready\n/v1/node\n/v1/shards\n"),
        "/metrics" => metrics(&admin.shard).await,
        // That this is answered at all says that shard 0 turns; asking the others finds one that does not.
        "/health/live" => {
            match timeout(PATIENCE, admin.shard.mesh.call_all(|_| std::future::ready(()))).await {
                Some(_) => Response::text(200, "live\n"),
                None => Response::text(503, "some shard does not answer\n"),
            }
        }
        "/health/ready" if admin.ready.get() => Response::text(200, "ready\n"),
        "/health/ready" => Response::text(503, "not ready: starting or stopping\n"),
        "/v1/node" => Response::json(&node(&admin.shard)),
        "/v1/shards" => shards(&admin.shard).await,
        _ => Response::text(404, "There is nothing here; / lists what there is.\n"),
    }
}

async fn metrics(shard: &Rc<Shard>) -> Response {
    let of_shards = shard.mesh.call_all(|shard| {
        let mut samples = Samples::default();
        shard.collect(&mut samples);
        std::future::ready(samples)
    });
    let mut all = Samples::default();
    of_shards.await.into_iter().for_each(|samples| all.merge(samples));
    all.gauge(
        "broker_uptime_seconds",
        "Time since the start.",
        &[],
        shard.broker.started.elapsed().as_secs_f64(),
    );
    all.gauge("process_resident_memory_bytes", "Resident memory.", &[], memory::resident_bytes() as f64);
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    all.gauge("broker_build_info", "Always 1; the version is a label.", &labels, 1.0);
    Response { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body: all.to_text() }
}

fn node(shard: &Shard) -> serde_json::Value {
    let broker = &shard.broker;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "node_id": broker.config.node_id,
        "listen": broker.kafka_address.to_string(),
        "advertised": broker.advertised.to_string(),
        "admin": broker.admin_address.to_string(),
        "data_dir": broker.config.data_dir.display().to_string(),
        "durability": broker.config.durability.to_string(),
        "uptime_seconds": broker.started.elapsed().as_secs(),
    })
}

async fn shards(shard: &Rc<Shard>) -> Response {
    let of_shards = shard.mesh.call_all(|shard| {
        let net = shard.net.get();
        std::future::ready(json!({
            "shard": shard.id.0,
            "core": shard.broker.cores[shard.id.0],
            "connections": net.map_or(0, |net| net.open()),
            "requests_in_flight": shard.pulse.in_flight(),
            "memory_budget_bytes": shard.budget.total_bytes(),
            "memory_used_bytes": shard.budget.used_bytes(),
        }))
    });
    Response::json(&json!(of_shards.await))
}
