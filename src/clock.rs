//! The clock of this machine, for what never leaves it or decides nothing: ids of requests.
//! Everything that is stored or compared goes by the database's clock.

use time::OffsetDateTime;

use crate::domain::timestamp::Timestamp;

/// Now, by this machine.
#[must_use]
pub fn local() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads this machine's clock")]
    let now = OffsetDateTime::now_utc();
    Timestamp::try_from(now).expect("this is before the year 10000")
}
