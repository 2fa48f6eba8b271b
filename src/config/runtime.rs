//! The setting of tokio's runtime.

use super::{
    environment::{set_but_empty, variable},
    error::ConfigError,
    reader::Reader,
    variable::Variable,
};

/// The environment variable that sets the number of threads.
pub const WORKER_THREADS: Variable = Variable {
    name: "TOKIO_WORKER_THREADS",
    help: "Number of threads that serve requests, 1 to 1000. The default is the number of cores. \
           If Postgres runs on the same machine, set it to half of the cores.",
};

/// Returns the number of threads that serve requests, or `None` if the variable is not set. tokio
/// also reads the variable, but panics if the value is invalid.
pub fn worker_threads() -> Result<Option<usize>, ConfigError> {
    let name = WORKER_THREADS.name;
    let Some(value) = variable(name) else { return Ok(None) };
    let text = value.to_string_lossy();
    if text.trim().is_empty() {
        return Err(ConfigError(vec![set_but_empty(name)]));
    }
    let mut reader = Reader::default();
    let threads = reader.number(name, Some(&*text), 1..=1000, 1);
    reader.finish(threads.map(Some))
}
