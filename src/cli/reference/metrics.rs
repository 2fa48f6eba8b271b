//! Generates the page of all metrics.

use super::markdown::{begin, choice, code, help, table};
use crate::telemetry::{METRICS, Metric, MetricKind, MetricLabel};

const INTRODUCTION: &str = "\
Each node serves its metrics at `/metrics` of \
[`TOLLGATE_METRICS_LISTEN`](settings.md#tollgate_metrics_listen), in the text format of \
Prometheus. [Monitoring](../how-to/monitoring.md) describes which metrics to watch. All counters \
start at zero when the node starts. All histograms measure seconds.

";

pub fn page() -> String {
    let mut text = begin("metrics", "Metrics");
    text.push_str(INTRODUCTION);
    let row = |metric: &Metric| {
        vec![format!("[{}](#{})", code(metric.name), metric.name), help(metric.help)]
    };
    text.push_str(&table(&["metric", "meaning"], &METRICS.iter().map(row).collect::<Vec<_>>()));
    METRICS.iter().for_each(|metric| text.push_str(&section(metric)));
    text.trim_end().to_owned() + "\n"
}

fn section(metric: &Metric) -> String {
    let Metric { name, kind, help: text, labels } = metric;
    let kind = match kind {
        MetricKind::Counter => "Counter",
        MetricKind::Gauge => "Gauge",
        MetricKind::Histogram => "Histogram, in seconds",
    };
    let mut section = format!("## {}\n\n{kind}. {}.\n\n", code(name), help(text));
    if !labels.is_empty() {
        let rows: Vec<Vec<String>> = labels.iter().map(row).collect();
        section.push_str(&table(&["label", "meaning", "values"], &rows));
    }
    section
}

fn row(label: &MetricLabel) -> Vec<String> {
    let shown: Vec<&str> = label.values.iter().map(|&value| shown(value)).collect();
    vec![code(label.name), help(label.help), choice(&shown)]
}

/// Formats a value. PromQL writes an empty value as two quotes.
fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn section_contains_the_type_the_help_and_the_values_of_each_label() {
        const STATE: MetricLabel =
            MetricLabel { name: "state", help: "a state", values: &["", "idle"] };
        let metric = Metric {
            name: "a_total",
            kind: MetricKind::Counter,
            help: "Number of <a>",
            labels: &[STATE],
        };
        assert_eq!(
            section(&metric),
            "## `a_total`\n\nCounter. Number of &lt;a&gt;.\n\n| label | meaning | values |\n\
             | --- | --- | --- |\n| `state` | a state | `\"\"` or `idle` |\n\n"
        );
    }
}
