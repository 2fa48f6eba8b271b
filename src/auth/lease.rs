use std::time::Duration;

use super::sync::{AtomicI64, AtomicU64, Ordering};
use crate::domain::timestamp::Timestamp;

/// The right to answer out of a cache, up to a moment of this machine's clock.
///
/// Moments are times since boot, to the microsecond. A lease that was never granted is over.
pub(super) struct Lease {
    /// Microseconds since boot; the lease is over at exactly this moment.
    ends: AtomicU64,
    /// Microseconds of the database's clock (Unix time) less those since boot. Early by what the
    /// database took to answer, so that what is compared with it expires too early, never late.
    offset: AtomicI64,
}

impl Lease {
    pub fn new() -> Self {
        Self { ends: AtomicU64::new(0), offset: AtomicI64::new(0) }
    }

    /// Holds from now until `length` after `sent`, the moment before the database was asked.
    /// Everything that was changed before the database answered has to have been applied to the
    /// cache: who sees the lease sees that too.
    pub fn grant(&self, sent: Duration, length: Duration, database_clock: Timestamp) {
        let offset = database_clock.unix_micros().saturating_sub_unsigned(micros(sent));
        self.offset.store(offset, Ordering::Relaxed);
        self.ends.store(micros(sent + length), Ordering::Release);
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
    /// more than the database took to answer.
    pub fn may_have_come(&self, moment: Timestamp, now: Duration) -> bool {
        let offset = self.offset.load(Ordering::Relaxed);
        moment.unix_micros() <= offset.saturating_add_unsigned(micros(now))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn moment(micros: i64) -> Timestamp {
        Timestamp::from_unix_micros(micros).expect("in range")
    }

    #[test]
    fn it_is_over_at_exactly_its_end() {
        let lease = Lease::new();
        assert!(!lease.holds(at(0)));
        lease.grant(at(1000), at(500), moment(0));
        assert!(lease.holds(at(1499)));
        assert!(!lease.holds(at(1500)));
        lease.end();
        assert!(!lease.holds(at(1100)));
    }

    proptest! {
        /// However long the database took: what has come is never taken for what has not.
        #[test]
        fn an_expiry_is_never_seen_too_late(
            sent in 0..1_000_000_u64, took in 0..1_000_000_u64, later in 0..10_000_000_u64,
            boot in 1_000_000_000_000_000..2_000_000_000_000_000_i64, answered in 0.0..=1.0_f64,
        ) {
            let lease = Lease::new();
            // The database reads its clock somewhere between the question and the answer.
            let read = sent + (took as f64 * answered) as u64;
            let database_clock = |since_boot: u64| moment(boot + since_boot as i64);
            lease.grant(at(sent), at(2_000_000), database_clock(read));
            let now = sent + took + later;
            prop_assert!(lease.may_have_come(database_clock(now), at(now)));
            prop_assert!(!lease.may_have_come(database_clock(now + took + 1), at(now)));
        }
    }
}
