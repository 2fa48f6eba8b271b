//! The identity of a database server.

/// Identifies a running database server by the time when it started, in microseconds.
///
/// After a failover, a different server orders the commits, and the old server may return stale
/// data. So a node compares the server of each response with the server that granted its lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerId(i64);

impl ServerId {
    /// Returns the id of the server that started at this time by its own clock, in microseconds
    /// since 1970.
    #[must_use]
    pub const fn started_at(unix_micros: i64) -> Self {
        Self(unix_micros)
    }

    /// Returns the time when the server started, in microseconds since 1970.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }
}
