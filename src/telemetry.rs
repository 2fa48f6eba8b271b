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

/// A metric that a service exposes.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    pub labels: &'static [MetricLabel],
}

/// The type of a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// A histogram of durations in seconds.
    Histogram,
}

/// A label of a metric.
#[derive(Debug)]
pub struct MetricLabel {
    pub name: &'static str,
    pub help: &'static str,
    /// All values of the label. Empty if it can have any value.
    pub values: &'static [&'static str],
}

/// Every metric. The recorder registers this list, and the book's page of metrics shows it.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "tollgate_http_requests_total",
        kind: MetricKind::Counter,
        help: "Number of HTTP requests",
        labels: &[ROUTE, METHOD, STATUS],
    },
    Metric {
        name: "tollgate_http_request_seconds",
        kind: MetricKind::Histogram,
        help: "Time from the arrival of a request's headers to its response",
        labels: &[ROUTE, METHOD, STATUS],
    },
    Metric {
        name: "tollgate_verifications_total",
        kind: MetricKind::Counter,
        help: "Number of API key verifications. A key that belongs to another tenant than the \
               route requires is not counted",
        labels: &[
            MetricLabel {
                name: "tenant",
                help: "name of the tenant; empty if no tenant has the prefix of the key",
                values: &[],
            },
            MetricLabel {
                name: "environment",
                help: "environment of the tenant; empty if the tenant is unknown",
                values: &["", "live", "test"],
            },
            MetricLabel {
                name: "outcome",
                help: "valid, or the reason why the request was refused",
                values: &[
                    "valid",
                    "missing",
                    "conflicting",
                    "malformed",
                    "not_found",
                    "revoked",
                    "expired",
                    "disabled",
                    "account_suspended",
                    "unavailable",
                    "insufficient_scope",
                    "insufficient_balance",
                    "spend_limit_exceeded",
                ],
            },
        ],
    },
    Metric {
        name: "tollgate_cache_lookups_total",
        kind: MetricKind::Counter,
        help: "Number of lookups in the verification cache",
        labels: &[MetricLabel {
            name: "result",
            help: "result of the lookup; no_lease means that the node had no lease, so the request \
                   waited for one",
            values: &["hit", "miss", "no_lease"],
        }],
    },
    Metric {
        name: "tollgate_cache_keys",
        kind: MetricKind::Gauge,
        help: "Number of keys in the verification cache",
        labels: &[],
    },
    Metric {
        name: "tollgate_lease_held",
        kind: MetricKind::Gauge,
        help: "1 if the node holds its lease, otherwise 0. A node without a lease accepts no key",
        labels: &[],
    },
    Metric {
        name: "tollgate_gathered_keys_total",
        kind: MetricKind::Counter,
        help: "Number of keys that were looked up in the database",
        labels: &[],
    },
    Metric {
        name: "tollgate_gathered_statements_total",
        kind: MetricKind::Counter,
        help: "Number of SQL statements that looked up keys. Concurrent lookups share a statement",
        labels: &[],
    },
    Metric {
        name: "tollgate_usage_dropped_total",
        kind: MetricKind::Counter,
        help: "Number of usage counts that were dropped because too many keys were in use at the \
               same time",
        labels: &[],
    },
    Metric {
        name: "tollgate_operations_total",
        kind: MetricKind::Counter,
        help: "Number of requested purchases, holds, captures and voids",
        labels: &[
            MetricLabel { name: "tenant", help: "name of the tenant", values: &[] },
            MetricLabel {
                name: "environment",
                help: "environment of the tenant",
                values: &["live", "test"],
            },
            MetricLabel {
                name: "kind",
                help: "kind of the request; hold means that the request creates a hold",
                values: &["purchase", "hold", "capture", "void"],
            },
            MetricLabel {
                name: "outcome",
                help: "result of the request; declined means that the balance or a spend limit was \
                       too small; replayed means that the response repeats an earlier one",
                values: &[
                    "done",
                    "declined",
                    "replayed",
                    "idempotency_mismatch",
                    "refused",
                    "unavailable",
                    "failed",
                ],
            },
        ],
    },
    Metric {
        name: "tollgate_lost_entries_total",
        kind: MetricKind::Counter,
        help: "Number of acknowledged ledger entries that the database lost in a failover",
        labels: &[],
    },
    Metric {
        name: "tollgate_lost_revokes_total",
        kind: MetricKind::Counter,
        help: "Number of acknowledged revocations of API keys that the database lost in a \
               failover. The node repeats these revocations",
        labels: &[],
    },
    Metric {
        name: "tollgate_database_seconds",
        kind: MetricKind::Histogram,
        help: "Duration of operations on the database, including the wait for a connection",
        labels: &[MetricLabel {
            name: "operation",
            help: "name of the operation; for example, apply decides a batch of purchases, and \
                   settle_change waits for the other nodes after a change",
            values: &[],
        }],
    },
    Metric {
        name: "tollgate_connections",
        kind: MetricKind::Gauge,
        help: "Number of client connections",
        labels: &[MetricLabel {
            name: "state",
            help: "open counts all connections; idle counts the connections that wait for a \
                   request",
            values: &["open", "idle"],
        }],
    },
    Metric {
        name: "tollgate_connections_refused_total",
        kind: MetricKind::Counter,
        help: "Number of client connections beyond the limits. Requests on these connections get \
               503, except for health checks",
        labels: &[],
    },
    Metric {
        name: "tollgate_database_connections",
        kind: MetricKind::Gauge,
        help: "Number of connections to the database",
        labels: &[MetricLabel {
            name: "state",
            help: "used counts the connections that execute an operation; idle counts the others",
            values: &["used", "idle"],
        }],
    },
    Metric {
        name: "tollgate_database_connections_max",
        kind: MetricKind::Gauge,
        help: "Maximum number of connections to the database",
        labels: &[],
    },
];

const ROUTE: MetricLabel = MetricLabel {
    name: "route",
    help: "path of the route with its parameters, such as /v1/accounts/{account}; unmatched if the \
           path is unknown",
    values: &[],
};
const METHOD: MetricLabel = MetricLabel {
    name: "method",
    help: "method of the request; other if the method is unknown",
    values: &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"],
};
const STATUS: MetricLabel =
    MetricLabel { name: "status", help: "HTTP status of the response", values: &[] };

/// Upper bounds of the histograms' buckets, in seconds: from a cached lookup to a timeout.
const BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 15.0,
];

/// How often the recorder aggregates the values of histograms. At 100,000 requests per second, a
/// few megabytes of values accumulate in this time.
const SUM_UP_AFTER: Duration = Duration::from_secs(1);

/// Starts the log, as text or JSON.
pub fn start_log(config: LogConfig) {
    let level = LevelFilter::from_level(config.level);
    // A line that cannot be written is lost. By default the builder would print the error to the
    // same standard error, and panic.
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .log_internal_errors(false);
    // The pool of sqlx logs every failed and every slow attempt to connect. The store logs the
    // failures that matter.
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
/// memory until it is aggregated, and no client may ever fetch the metrics.
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
