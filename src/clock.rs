//! This machine's clocks. Only ids use the time of day, and no decision depends on it. All stored
//! or compared times come from the database's clock. The time since boot measures leases and the
//! age of key usage.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use crate::domain::timestamp::Timestamp;

/// Returns the time of day by this machine's clock.
#[must_use]
pub fn local() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "only this function reads the machine's clock")]
    let now = OffsetDateTime::now_utc();
    Timestamp::try_from(now).expect("this is before the year 10000")
}

/// Returns the time since this machine booted. The clock never steps, and it runs while the machine
/// sleeps, so a lease from before the sleep has ended when the machine wakes up.
#[must_use]
pub fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).expect("this clock begins at zero");
    let nanos = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanos)
}
