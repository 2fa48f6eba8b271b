//! Logs a warning if a start waits for a long time.

use std::{pin::pin, time::Duration};

use tracing::warn;

/// Time after which a wait is logged.
const LOGGED_AFTER: Duration = Duration::from_secs(5);

/// Waits for `work` without a time limit. Logs a warning if the work takes a long time.
pub(super) async fn warn_if_long<T>(awaited: &str, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    if let Ok(done) = tokio::time::timeout(LOGGED_AFTER, work.as_mut()).await {
        return done;
    }
    warn!("the start is waiting for {awaited}");
    work.await
}
