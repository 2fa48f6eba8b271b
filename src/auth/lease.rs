use std::time::Duration;

use super::sync::{AtomicI64, AtomicU64, Ordering};
use crate::domain::{server::ServerId, timestamp::Timestamp};

/// The node that holds a lease subtracts this fraction of its length, 1/64. It therefore ends the
/// lease before the other nodes stop waiting for it, even if the clocks of two machines run at
/// different rates. The rates differ by less than 1/1000, and NTP adjusts a rate by at most half of
/// that.
pub(crate) const DRIFT: u32 = 64;

/// The right to answer from the cache until a moment on this machine's clock.
///
/// Moments are times since boot, in microseconds. A lease that was never granted is not held.
pub(super) struct Lease {
    /// The end of the lease, in microseconds since boot. At exactly this moment the lease is no
    /// longer held.
    ends: AtomicU64,
    /// The database's clock (Unix time) minus the time since boot, in microseconds. The offset is
    /// never too small. It is too large by up to the response time of the database plus the drift,
    /// so keys may expire too early, but never too late.
    offset: AtomicI64,
    /// The server that granted the lease, as [`ServerId::unix_micros`].
    server: AtomicI64,
}

impl Lease {
    pub fn new() -> Self {
        Self { ends: AtomicU64::new(0), offset: AtomicI64::new(0), server: AtomicI64::new(0) }
    }

    /// Grants the lease until `length` minus 1/64 after `sent`, the moment before the node sent the
    /// renewal. Other nodes that wait for the end of the lease measure `length` with their own
    /// clocks. The cache must already have applied every change from before the renewal. A thread
    /// that sees the lease also sees those changes.
    pub fn grant(
        &self,
        sent: Duration,
        length: Duration,
        database_clock: Timestamp,
        server: ServerId,
    ) {
        let drift = length / DRIFT;
        let offset = database_clock.unix_micros().saturating_sub_unsigned(micros(sent));
        let offset = offset.saturating_add_unsigned(micros(drift));
        self.offset.store(offset, Ordering::Relaxed);
        self.server.store(server.unix_micros(), Ordering::Relaxed);
        self.ends.store(micros(sent + length - drift), Ordering::Release);
    }

    pub fn end(&self) {
        self.ends.store(0, Ordering::Release);
    }

    /// Whether a verdict from the cache may be used. Call this before reading the cache. Or call it
    /// after the read, and *then* check that the number of changes is the same as before the read.
    /// The cache applies all missed changes before a lease is granted, so a missed change makes the
    /// numbers differ.
    pub fn holds(&self, now: Duration) -> bool {
        micros(now) < self.ends.load(Ordering::Acquire)
    }

    /// Returns the server that granted the lease. `None` if the lease is not held. If a new lease
    /// is granted concurrently, the result may be the server of the new lease, which is equally
    /// valid.
    pub fn server(&self, now: Duration) -> Option<ServerId> {
        let holds = self.holds(now);
        holds.then(|| ServerId::started_at(self.server.load(Ordering::Relaxed)))
    }

    /// Whether a moment on the database's clock may have come. The answer is never late. It is
    /// early by at most the response time of the database plus 1/64 of the lease.
    pub fn may_have_come(&self, moment: Timestamp, now: Duration) -> bool {
        let offset = self.offset.load(Ordering::Relaxed);
        moment.unix_micros() <= offset.saturating_add_unsigned(micros(now))
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
