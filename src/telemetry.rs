//! Telemetry for operators: the log on stderr, and metrics for Prometheus.

use std::{io::IsTerminal as _, pin::pin, time::Duration};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{config::LogConfig, node::Node};

/// Upper bounds of the histograms' buckets, in seconds: from a cached lookup to a time-out.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0,
];

/// How often histograms are summed up. At 100,000 requests a second, a few megabytes of values
/// gather in this time.
const SUM_UP_AFTER: Duration = Duration::from_secs(1);

/// Starts the log, as text or JSON.
pub fn start_log(config: LogConfig) {
    let level = LevelFilter::from_level(config.level);
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level);
    // The pool of sqlx logs every failure of a connection, and every slow one; the store logs those
    // that matter.
    let targets = Targets::new()
        .with_default(level)
        .with_target("sqlx_core::pool", None)
        .with_target("sqlx::pool", None);
    if config.json {
        builder.json().flatten_event(true).finish().with(targets).init();
    } else {
        let colors = std::io::stderr().is_terminal();
        builder.with_ansi(colors).with_target(false).finish().with(targets).init();
    }
}

/// Starts the recorder of metrics.
pub fn start_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
    describe_counter!("tollgate_http_requests_total", "Requests by route, method and status");
    describe_histogram!(
        "tollgate_http_request_seconds",
        Unit::Seconds,
        "Time from a request's headers to its response, by route, method and status"
    );
    describe_counter!(
        "tollgate_verifications_total",
        "Verifications by tenant, environment and outcome; the tenant is empty if no tenant has \
         the key's prefix"
    );
    describe_counter!(
        "tollgate_cache_lookups_total",
        "Cache lookups by result: hit; miss; no_lease, the node had no lease and the request \
         waited for one"
    );
    describe_gauge!("tollgate_cache_keys", "Keys in the cache");
    describe_gauge!("tollgate_lease_held", "1: the node holds its lease; 0: no key passes");
    describe_counter!(
        "tollgate_gathered_keys_total",
        "Keys that were looked up in the database; concurrent lookups share a statement"
    );
    describe_counter!(
        "tollgate_gathered_statements_total",
        "Statements that looked keys up in the database"
    );
    describe_counter!(
        "tollgate_usage_dropped_total",
        "Usage counts that were dropped because too many keys were in use concurrently"
    );
    describe_counter!(
        "tollgate_operations_total",
        "Requested purchases, holds, captures and voids, by tenant, environment, kind and outcome"
    );
    describe_counter!(
        "tollgate_lost_entries_total",
        "Acknowledged ledger entries that the database lost in a failover"
    );
    describe_counter!(
        "tollgate_lost_revokes_total",
        "Acknowledged revokes of API keys that the database lost in a failover; they are repeated"
    );
    describe_histogram!(
        "tollgate_database_seconds",
        Unit::Seconds,
        "Duration of store operations, including the wait for a connection, by operation"
    );
    describe_gauge!(
        "tollgate_connections",
        "Connections of clients, by state: open, all of them; idle, those between requests"
    );
    describe_counter!(
        "tollgate_connections_refused_total",
        "Connections of clients that got no ordinary place; health was answered where possible"
    );
    describe_gauge!("tollgate_database_connections", "Connections to the database, by state");
    describe_gauge!(
        "tollgate_database_connections_max",
        "Maximum number of connections to the database"
    );
    Ok(handle)
}

/// Sums up the values of the histograms at intervals, until `stop` is ready. Each value stays in
/// memory until it is summed up, and the metrics may never be fetched.
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

/// `/metrics`, in Prometheus's text format. `set_gauges` sets gauges that have a value only when the
/// metrics are fetched, beside those of the node.
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

/// Sets the metrics that are read only when the metrics are fetched.
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
