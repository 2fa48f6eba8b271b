//! Which server of the database answers.

/// One running server of the database: the time when it started, in microseconds.
///
/// After a failover another server orders the commits. What the old one says may be out of date, so
/// a node compares the server of each answer with the one that granted its lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerId(i64);

impl ServerId {
    /// The server that started at this time of its own clock, in microseconds since 1970.
    #[must_use]
    pub const fn started_at(unix_micros: i64) -> Self {
        Self(unix_micros)
    }

    /// The time when it started, in microseconds since 1970.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }
}
