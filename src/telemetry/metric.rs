//! The table of all metrics, with their labels.

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
        help: "Number of API key verifications. A key that belongs to a different tenant than \
               the route requires is not counted",
        labels: &[
            MetricLabel {
                name: "tenant",
                help: "name of the tenant, or empty if no tenant has the prefix of the key",
                values: &[],
            },
            MetricLabel {
                name: "environment",
                help: "environment of the tenant, or empty if the tenant is unknown",
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
                    "tenant_suspended",
                    "account_suspended",
                    "ip_not_allowed",
                    "rate_limited",
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
            help: "result of the lookup, where no_lease means that the node had no lease, so the \
                   request waited for one",
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
                help: "kind of the request, where hold means that the request creates a hold",
                values: &["purchase", "hold", "capture", "void"],
            },
            MetricLabel {
                name: "outcome",
                help: "result of the request, where declined means that the balance or a spend \
                       limit was too small, and replayed means that the response repeats an \
                       earlier one",
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
            help: "name of the operation, such as apply, which decides a batch of purchases, or \
                   settle_change, which waits for the other nodes after a change",
            values: &[],
        }],
    },
    Metric {
        name: "tollgate_connections",
        kind: MetricKind::Gauge,
        help: "Number of client connections",
        labels: &[MetricLabel {
            name: "state",
            help: "open counts all connections, and idle counts the connections that wait for a \
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
            help: "used counts the connections that execute an operation, and idle the others",
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
    help: "path of the route with its parameters, such as /v1/accounts/{account}, or unmatched if \
           the path is unknown",
    values: &[],
};
const METHOD: MetricLabel = MetricLabel {
    name: "method",
    help: "method of the request, or other if the method is unknown",
    values: &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"],
};
const STATUS: MetricLabel =
    MetricLabel { name: "status", help: "HTTP status of the response", values: &[] };
