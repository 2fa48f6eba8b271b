use std::time::Duration;

use super::sync::{AtomicI64, AtomicU64, Ordering};
use crate::domain::{server::ServerId, timestamp::Timestamp};

/// A lease is shorter by this fraction for the node that holds it than for a node that waits for
/// its end, because the clocks of two machines may run at different speeds. Clocks differ by less
/// than a thousandth, and NTP slews them by no more than half of that.
const DRIFT: u32 = 64;

/// The right to answer from a cache, up to a moment of this machine's clock.
///
/// Moments are times since boot, to the microsecond. A lease that was never granted is over.
pub(super) struct Lease {
    /// Microseconds since boot; the lease is over at exactly this moment.
    ends: AtomicU64,
    /// The database's clock (Unix time) minus the time since boot, in microseconds. It is too large
    /// by up to the time that the database took to answer plus the drift, so keys that are compared
    /// with it expire too early, never too late.
    offset: AtomicI64,
    /// The server that granted the lease, as [`ServerId::unix_micros`].
    server: AtomicI64,
}

impl Lease {
    pub fn new() -> Self {
        Self { ends: AtomicU64::new(0), offset: AtomicI64::new(0), server: AtomicI64::new(0) }
    }

    /// Grants the lease from now until `length` minus 1/64 after `sent`, the moment before the
    /// renewal was sent. Nodes that wait for its end measure `length` with their own clocks. The
    /// cache must already have applied every change from before the renewal: a reader that sees
    /// the lease sees those changes too.
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

    /// Whether the cache may be read. Must be called *before* the cache is read: a lease that is
    /// granted in between does not cover what was read before.
    pub fn holds(&self, now: Duration) -> bool {
        micros(now) < self.ends.load(Ordering::Acquire)
    }

    /// The server that granted the lease, if the lease holds. If a new lease is granted
    /// concurrently, it may be the server of that one, which is as good.
    pub fn server(&self, now: Duration) -> Option<ServerId> {
        let holds = self.holds(now);
        holds.then(|| ServerId::started_at(self.server.load(Ordering::Relaxed)))
    }

    /// Whether a moment of the database's clock may have come. The answer is never late. It is
    /// early by at most the time that the database took to answer plus 1/64 of the lease.
    pub fn may_have_come(&self, moment: Timestamp, now: Duration) -> bool {
        let offset = self.offset.load(Ordering::Relaxed);
        moment.unix_micros() <= offset.saturating_add_unsigned(micros(now))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
