//! Records metrics, and serves them to Prometheus.

use std::{pin::pin, time::Duration};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use super::metric::{METRICS, Metric, MetricKind};
use crate::node::Node;

/// Upper bounds of the histograms' buckets, in seconds. They cover durations from a cached lookup
/// to a timeout.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0,
];

/// How often the recorder aggregates the values of histograms. At 100,000 requests per second, a
/// few megabytes of values accumulate in this time.
const SUM_UP_AFTER: Duration = Duration::from_secs(1);

/// Starts the recorder of metrics. Counters without labels begin at zero, so that an alert can
/// compare the value after the first event with an earlier value.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    for &Metric { name, kind, help, labels } in METRICS {
        match kind {
            MetricKind::Counter => {
                describe_counter!(name, help);
                if labels.is_empty() {
                    counter!(name).increment(0);
                }
            }
            MetricKind::Gauge => describe_gauge!(name, help),
            MetricKind::Histogram => describe_histogram!(name, Unit::Seconds, help),
        }
    }
    Ok(handle)
}

/// Aggregates the values of histograms at intervals, until `stop` completes. Each value stays in
/// memory until it is aggregated, so the recorder does not wait for a client that fetches the
/// metrics.
pub async fn sum_up(handle: PrometheusHandle, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut again = tokio::time::interval(SUM_UP_AFTER);
    loop {
        tokio::select! {
            _ = again.tick() => handle.run_upkeep(),
            () = &mut stop => return,
        }
    }
}

/// Returns the router of `/metrics`, in Prometheus's text format. `set_gauges` updates further
/// gauges whenever a client fetches the metrics.
pub fn metrics_router(
    handle: PrometheusHandle,
    node: Node,
    set_gauges: impl Fn() + Clone + Send + Sync + 'static,
) -> Router {
    let render = move || {
        let (handle, node, set_gauges) = (handle.clone(), node.clone(), set_gauges.clone());
        async move {
            set_gauges();
            set_state(&node);
            let media_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (media_type, handle.render()).into_response()
        }
    };
    Router::new().route("/metrics", get(render))
}

/// Updates the metrics of the node, whenever a client fetches the metrics.
fn set_state(node: &Node) {
    let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let pool = node.store().pool_state();
    gauge!("tollgate_database_connections", "state" => "idle").set(number(pool.idle));
    gauge!("tollgate_database_connections", "state" => "used").set(number(pool.used));
    gauge!("tollgate_database_connections_max").set(f64::from(pool.max));
    let (keys, statements) = node.store().lookup_counts();
    counter!("tollgate_gathered_keys_total").absolute(keys);
    counter!("tollgate_gathered_statements_total").absolute(statements);
    let cache = node.verifier().state();
    gauge!("tollgate_cache_keys").set(number(cache.keys));
    gauge!("tollgate_lease_held").set(f64::from(u8::from(cache.holds_lease)));
    for (result, count) in
        [("hit", cache.hits), ("miss", cache.misses), ("no_lease", cache.without_lease)]
    {
        counter!("tollgate_cache_lookups_total", "result" => result).absolute(count);
    }
}
