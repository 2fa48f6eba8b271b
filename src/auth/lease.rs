use std::time::Duration;

use super::sync::{AtomicI64, AtomicU64, Ordering};
use crate::domain::timestamp::Timestamp;

/// By what part of it a lease is shorter for who holds it than for who waits for its end: so much
/// the clocks of two machines may differ in how fast they run. Clocks differ by less than a
/// thousandth; NTP slews them by no more than half of that.
const DRIFT: u32 = 64;

/// The right to answer out of a cache, up to a moment of this machine's clock.
///
/// Moments are times since boot, to the microsecond. A lease that was never granted is over.
pub(super) struct Lease {
    /// Microseconds since boot; the lease is over at exactly this moment.
    ends: AtomicU64,
    /// Microseconds of the database's clock (Unix time) less those since boot. Early by what the
    /// database took to answer, and by what the clocks may drift apart, so that what is compared
    /// with it expires too early, never late.
    offset: AtomicI64,
}

impl Lease {
    pub fn new() -> Self {
        Self { ends: AtomicU64::new(0), offset: AtomicI64::new(0) }
    }

    /// Holds from now until `length` after `sent`, the moment before the database was asked, less
    /// a 64th of it: others, who wait for its end, measure it by clocks of their own.
    /// Everything that was changed before the database answered has to have been applied to the
    /// cache: who sees the lease sees that too.
    pub fn grant(&self, sent: Duration, length: Duration, database_clock: Timestamp) {
        let drift = length / DRIFT;
        let offset = database_clock.unix_micros().saturating_sub_unsigned(micros(sent));
        let offset = offset.saturating_add_unsigned(micros(drift));
        self.offset.store(offset, Ordering::Relaxed);
        self.ends.store(micros(sent + length - drift), Ordering::Release);
    }

    pub fn end(&self) {
        self.ends.store(0, Ordering::Release);
    }

    /// Whether the cache may be read. To be asked *before* it is read: a lease that is granted in
    /// between says nothing of what was read before.
    pub fn holds(&self, now: Duration) -> bool {
        micros(now) < self.ends.load(Ordering::Acquire)
    }

    /// Whether a moment of the database's clock may have come; never too late, and early by no
    /// more than the database took to answer and a 64th of the lease.
    pub fn may_have_come(&self, moment: Timestamp, now: Duration) -> bool {
        let offset = self.offset.load(Ordering::Relaxed);
        moment.unix_micros() <= offset.saturating_add_unsigned(micros(now))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
