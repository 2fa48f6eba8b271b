use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{UsageBuffer, buffer::TakenKey};
use crate::{
    domain::{account::AccountId, timestamp::Timestamp},
    store::{KeyUse, Store, StoreError},
};

/// Interval between two flushes. It is short, so that the first use of a key is visible soon.
const FLUSH_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of keys in one statement.
const MAX_KEYS_AT_ONCE: usize = 1000;

/// Time limit of one statement. The database also limits the statement, unless it has stopped
/// responding.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Time limit of the last flush, when the service stops.
const LAST_FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

const HOUR: Duration = Duration::from_secs(3600);

impl UsageBuffer {
    /// Writes the due counts every few seconds until `stop` is ready, and then all remaining
    /// counts.
    ///
    /// Also writes all counts at the end of each hour by the database's clock, because a stored
    /// count belongs to one hour.
    pub async fn run(self: Arc<Self>, store: Arc<Store>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut turn_of_hour: Option<Duration> = None;
        let mut failing = false;
        loop {
            self.count_dropped();
            let now = (self.since_boot)();
            let to_turn = turn_of_hour.map_or(FLUSH_AFTER, |turn| turn.saturating_sub(now));
            tokio::select! {
                () = sleep(FLUSH_AFTER.min(to_turn)) => {}
                () = &mut stop => break,
            }
            let now = (self.since_boot)();
            let turned = turn_of_hour.is_some_and(|turn| turn <= now);
            if turned {
                // The write below corrects this time if there are counts to write.
                turn_of_hour = turn_of_hour.map(|turn| turn + HOUR);
            }
            match self.write(&store, self.take(turned)).await {
                Ok(Some(database_time)) => {
                    turn_of_hour = Some((self.since_boot)() + rest_of_hour(database_time));
                    if std::mem::take(&mut failing) {
                        info!("usage counts are written again");
                    }
                }
                Ok(None) => {}
                Err(_) if failing => {}
                Err(error) => {
                    failing = true;
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "usage counts cannot be written. They stay in memory until the next attempt"
                    );
                }
            }
        }
        match timeout(LAST_FLUSH_TIMEOUT, self.flush(&store)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "the last usage counts could not be written and are lost");
            }
            Err(_) => warn!("the last usage counts could not be written in time and are lost"),
        }
        self.count_dropped();
    }

    /// Writes all counts, even of keys that were written recently.
    pub async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        self.write(store, self.take(true)).await?;
        Ok(())
    }

    /// Writes the counts, and puts back counts that cannot be written. Returns the time by the
    /// database's clock if anything was written.
    async fn write(
        &self,
        store: &Store,
        taken: Vec<TakenKey>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let (mut rest, mut database_time) = (&taken[..], None);
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(MAX_KEYS_AT_ONCE));
            let timed_out =
                |_| Err(StoreError::Unavailable("the database did not answer in time".into()));
            let written = timeout(STATEMENT_TIMEOUT, self.write_at_once(store, some)).await;
            match written.unwrap_or_else(timed_out) {
                Ok(at) => database_time = Some(at),
                Err(error) => {
                    self.put_back(rest);
                    return Err(error);
                }
            }
            rest = others;
        }
        Ok(database_time)
    }

    async fn write_at_once(
        &self,
        store: &Store,
        some: &[TakenKey],
    ) -> Result<Timestamp, StoreError> {
        let mut uses = Vec::with_capacity(some.len());
        let now = (self.since_boot)();
        for TakenKey { principal, usage, clients } in some {
            // This does not query the database, because the tenant of a verified key is in memory.
            let tenant = store.find_tenant(&principal.tenant, principal.environment).await?;
            uses.push(KeyUse {
                account_id: AccountId::derive(tenant.id, &principal.account),
                key_id: principal.key_id,
                counts: usage.counts,
                began: now.saturating_sub(usage.began),
                passed: usage.passed.map(|passed| now.saturating_sub(passed)),
                clients: clients.used(now),
            });
        }
        store.record_usage(&uses).await
    }

    /// Adds the dropped counts to the metric. The first call creates the metric with the value
    /// zero.
    fn count_dropped(&self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        metrics::counter!("tollgate_usage_dropped_total").increment(dropped);
    }
}

/// Computes the time until the hour ends.
fn rest_of_hour(at: Timestamp) -> Duration {
    let gone = at.unix_micros().rem_euclid(HOUR.as_micros() as i64);
    HOUR - Duration::from_micros(gone.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_of_the_hour_ends_at_the_full_hour() {
        for (at, seconds) in [
            ("2027-01-31T12:00:00Z", 3600),
            ("2027-01-31T12:59:59Z", 1),
            ("1969-12-31T23:30:00Z", 1800),
        ] {
            let at = Timestamp::parse(at).expect("a time");
            assert_eq!(rest_of_hour(at), Duration::from_secs(seconds));
        }
    }
}
