//! The time limit of a start, and the polling interval.

use std::time::Duration;

/// Time limit of a whole start, including the creation of the cluster, the wait for another
/// process, and recovery.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval for polling state whose changes cause no notification.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);
