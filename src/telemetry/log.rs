//! The log on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::LogConfig;

/// Starts the log, as text or JSON.
pub fn start_log(config: LogConfig) {
    let level = LevelFilter::from_level(config.level);
    // The log drops a line that it cannot write. By default, the builder would print the error to
    // the same standard error, and panic.
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
