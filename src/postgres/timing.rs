//! The time-out of a start, and the polling interval.

use std::time::Duration;

/// What a whole start may take: making the cluster, waiting for another process, recovery.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at something that gives no notice.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);
