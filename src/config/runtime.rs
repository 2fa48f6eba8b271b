//! The setting of tokio's runtime.

use super::{
    environment::{set_but_empty, variable},
    error::ConfigError,
    reader::Reader,
};

const NAME: &str = "TOKIO_WORKER_THREADS";

/// How many threads serve requests. `None`: the variable is not set. tokio reads it too, but panics
/// if the value is invalid.
pub fn worker_threads() -> Result<Option<usize>, ConfigError> {
    let Some(value) = variable(NAME) else { return Ok(None) };
    let text = value.to_string_lossy();
    if text.trim().is_empty() {
        return Err(ConfigError(vec![set_but_empty(NAME)]));
    }
    let mut reader = Reader::default();
    let threads = reader.number(NAME, Some(&*text), 1..=1000, 1);
    reader.finish(threads.map(Some))
}
