//! The log of a command.

use tracing::warn;

use crate::{
    config::{LogConfig, unknown_variables},
    telemetry,
};

/// Starts the log. Then warns about variables that belong to no setting, because the command
/// ignores them.
pub fn start_log(config: LogConfig) {
    telemetry::start_log(config);
    for unknown in unknown_variables() {
        let variable = unknown.name;
        match unknown.closest {
            Some(closest) => {
                warn!(variable, "this variable belongs to no setting. Did you mean {closest}?");
            }
            None => {
                warn!(
                    variable,
                    "this variable belongs to no setting. tollgate serve --help lists all settings"
                );
            }
        }
    }
}
