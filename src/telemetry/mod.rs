//! Telemetry for operators: the log on stderr, and metrics for Prometheus.

mod log;
mod metric;
mod recorder;

pub use log::start_log;
pub use metric::{METRICS, Metric, MetricKind, MetricLabel};
pub use recorder::{metrics_router, start_metrics, sum_up};
