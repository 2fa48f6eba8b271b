//! The log of a command.

use tracing::warn;

use crate::{
    config::{LogConfig, unknown_variables},
    telemetry,
};

/// Starts the log. Its first lines are about variables that no setting has, because their values
/// are missing from the settings that the command runs with.
pub fn start_log(config: LogConfig) {
    telemetry::start_log(config);
    for unknown in unknown_variables() {
        let variable = unknown.name;
        match unknown.closest {
            Some(closest) => {
                warn!(variable, "no setting has this variable: did you mean {closest}?");
            }
            None => {
                warn!(variable, "no setting has this variable: tollgate serve --help lists all");
            }
        }
    }
}
