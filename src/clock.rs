//! This machine's clocks. The time of day is used only in ids, and decides nothing. The database's
//! clock decides everything that is stored or compared. The time since boot measures leases, and
//! how long ago keys were used.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;

use crate::domain::timestamp::Timestamp;

/// Now, by this machine.
#[must_use]
pub fn local() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads this machine's clock")]
    let now = OffsetDateTime::now_utc();
    Timestamp::try_from(now).expect("this is before the year 10000")
}

/// Time since this machine booted. It never steps, and goes on while the machine sleeps: a lease
/// that was held before is over when it wakes.
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
