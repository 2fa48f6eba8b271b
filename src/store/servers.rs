//! Decides which servers a node may use. A node uses only the server that grants its lease, and
//! never a deposed server.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::{
    StoreError,
    error::is_read_only,
    primary::{History, Server},
};

/// A connection that was opened within this time after the beginning of a session may have been
/// checked before the session began.
const CHECKED_BEFORE: Duration = Duration::from_millis(100);

/// Minimum time between two log lines about refused connections.
const LOG_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The servers behind a node's hosts, as far as the node has seen them on its connections. Cheap to
/// clone.
#[derive(Clone, Default)]
pub(super) struct Servers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    superseded: Notify,
}

#[derive(Default)]
struct Known {
    /// The highest known timeline of each database, by system identifier.
    newest: HashMap<i64, i64>,
    /// The database of the first session, by system identifier.
    system: Option<i64>,
    /// The server of the session. `None` if there is no session.
    of_session: Option<Server>,
    /// The number of sessions, and the beginning of the last one.
    sessions: u64,
    since: Option<Instant>,
    /// The reason why the last attempt to open a session failed, if it failed.
    outage: Option<String>,
    /// Whether the log already reports that two servers are primaries on one timeline.
    is_split: bool,
    /// The reason for refusing connections that the log last reported. `None` if they are accepted.
    refused: Option<Refused>,
    /// The time of the last log line about refused connections.
    refused_since: Option<Instant>,
}

/// The number of sessions so far. A connection from an earlier epoch may use another server.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Epoch(u64);

/// The reason why a connection is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The server is a standby.
    Standby,
    /// The promotion of another server deposed this server.
    Deposed,
    /// The server's database is not the database of the first session.
    OtherDatabase,
    /// The session is connected to another server.
    OtherServer,
    /// The first statements on the connection failed.
    Failed,
}

impl Servers {
    /// Decides whether a new connection to this server may be used.
    ///
    /// A server with a higher timeline than the session's server was promoted later, so the session
    /// has to follow it.
    pub fn admit(&self, server: Server) -> Result<(), Refused> {
        let mut known = self.lock();
        if let Some(History { system, timeline }) = server.history {
            if known.system.is_some_and(|own| own != system) {
                return Err(Refused::OtherDatabase);
            }
            let newest = known.newest.entry(system).or_insert(timeline);
            if timeline < *newest {
                return Err(Refused::Deposed);
            }
            *newest = timeline;
            let of_session = known.of_session.and_then(|own| own.history);
            if of_session.is_some_and(|own| own.system == system && own.timeline < timeline) {
                known.of_session = None;
                self.0.superseded.notify_one();
                warn!(
                    timeline,
                    "a connection reached a server with a higher timeline. The server that was \
                     used until now was deposed"
                );
            }
        }
        match known.of_session {
            Some(own) if own.id != server.id => Err(Refused::OtherServer),
            _ => Ok(()),
        }
    }

    /// Whether a server with this position in the history is known to be deposed.
    pub fn is_deposed(&self, history: History) -> bool {
        self.lock().newest.get(&history.system).is_some_and(|newest| history.timeline < *newest)
    }

    /// Whether this database differs from the database of the first session.
    pub fn is_other_database(&self, history: History) -> bool {
        self.lock().system.is_some_and(|own| own != history.system)
    }

    /// Records that a session began on this server. A pool closes each older connection before its
    /// next use.
    pub fn begin_session(&self, server: Server) {
        let mut known = self.lock();
        known.of_session = Some(server);
        known.system = known.system.or(server.history.map(|history| history.system));
        known.outage = None;
        known.sessions += 1;
        known.since = Some(Instant::now());
    }

    /// Records that there is no session. Connections may now use a server other than the server of
    /// the last session.
    pub fn end_session(&self) {
        self.lock().of_session = None;
    }

    /// Records that no session could be opened.
    pub fn no_session(&self, reason: String) {
        self.lock().outage = Some(reason);
    }

    /// Explains why a pool has no connection. If no session could be opened, the pool has no
    /// connection for the same reason, because all connections use the same database.
    pub fn no_connection(&self, error: sqlx::Error) -> StoreError {
        match (&error, &self.lock().outage) {
            (sqlx::Error::PoolTimedOut, Some(reason)) => {
                StoreError::Unavailable(format!("no connection to the database: {reason}").into())
            }
            _ => error.into(),
        }
    }

    /// Waits until a connection reaches a server whose promotion deposed the session's server.
    pub async fn superseded(&self) {
        self.0.superseded.notified().await;
    }

    /// Whether a connection of this age was opened before the session began.
    pub fn is_from_before(&self, age: Duration) -> bool {
        self.lock().since.is_some_and(|since| age + CHECKED_BEFORE > since.elapsed())
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(self.lock().sessions)
    }

    /// Records whether two hosts are primaries on the same timeline.
    pub fn split(&self, is_split: bool) {
        if std::mem::replace(&mut self.lock().is_split, is_split) != is_split && is_split {
            error!(
                "two hosts are primaries on one timeline. Two standbys were promoted, and each \
                 acknowledges commits that the other lacks. Stop one of them"
            );
        }
    }

    /// Records the result of the first statements on a new connection. Logs the result if the
    /// reason for refusing connections has changed. Behind a load balancer that alternates between
    /// servers, the reason changes all the time, so the number of log lines is limited.
    pub fn opened(&self, result: Result<(), Refused>, error: Option<&sqlx::Error>) {
        let refused = result.err();
        if !self.lock().is_news(refused) {
            return;
        }
        let error = error.map(|error| error as &dyn std::error::Error);
        match refused {
            None => info!("new connections reach the primary again"),
            Some(Refused::Standby) => {
                warn!(
                    "a new connection reached a standby and was closed. Tollgate uses only a \
                     primary"
                );
            }
            Some(Refused::Deposed) => warn!(
                "a new connection reached a deposed primary and was closed. Its timeline \
                 is lower than the timeline of another server of the same database"
            ),
            Some(Refused::OtherDatabase) => warn!(
                "a new connection reached a different database than before and was closed. If you \
                 have replaced the database, restart this process"
            ),
            Some(Refused::OtherServer) => warn!(
                "a new connection reached a different server than the listening session and was \
                 closed"
            ),
            Some(Refused::Failed) => {
                warn!(error, "a new connection was closed because its first statements failed");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // No operation leaves the value inconsistent, so a panic in another thread is harmless.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether the log needs a line for this reason. If so, counts it as logged.
    fn is_news(&mut self, refused: Option<Refused>) -> bool {
        let is_recent = self.refused_since.is_some_and(|since| since.elapsed() < LOG_AGAIN_AFTER);
        if self.refused == refused || (refused.is_some() && is_recent) {
            return false;
        }
        self.refused = refused;
        if refused.is_some() {
            self.refused_since = Some(Instant::now());
        }
        true
    }
}

impl Refused {
    /// Derives the reason from the error of the first statements on a connection.
    pub fn of(error: &sqlx::Error) -> Self {
        if is_read_only(error) { Self::Standby } else { Self::Failed }
    }
}

impl From<Refused> for sqlx::Error {
    fn from(refused: Refused) -> Self {
        let reason = match refused {
            Refused::Standby => "the server is a standby",
            Refused::Deposed => "the server was deposed",
            Refused::OtherDatabase => "the server has a different database than before",
            Refused::OtherServer => "the server is not the one of the session",
            Refused::Failed => "the first statements failed",
        };
        Self::Protocol(reason.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::server::ServerId;

    fn server(started_at: i64, timeline: i64) -> Server {
        Server {
            id: ServerId::started_at(started_at),
            history: Some(History { system: 7, timeline }),
        }
    }

    #[test]
    fn connection_to_a_server_other_than_the_server_of_the_session_is_refused() {
        let servers = Servers::default();
        assert_eq!(servers.admit(server(1, 1)), Ok(()));
        assert_eq!(servers.admit(server(2, 1)), Ok(()));
        servers.begin_session(server(1, 1));
        assert_eq!(servers.admit(server(1, 1)), Ok(()));
        assert_eq!(servers.admit(server(2, 1)), Err(Refused::OtherServer));
        servers.end_session();
        assert_eq!(servers.admit(server(2, 1)), Ok(()));
    }

    #[tokio::test]
    async fn node_follows_a_promotion_and_never_returns_to_the_deposed_server() {
        let servers = Servers::default();
        servers.begin_session(server(1, 1));
        assert_eq!(servers.admit(server(2, 2)), Ok(()));
        servers.superseded().await;
        assert_eq!(servers.admit(server(1, 1)), Err(Refused::Deposed));
        servers.begin_session(server(2, 2));
        assert_eq!(servers.admit(server(1, 1)), Err(Refused::Deposed));
        assert_eq!(servers.admit(server(2, 2)), Ok(()));
    }

    #[test]
    fn timelines_of_other_databases_are_not_compared() {
        let servers = Servers::default();
        assert_eq!(servers.admit(server(1, 5)), Ok(()));
        let other = History { system: 8, timeline: 1 };
        let other = Server { id: ServerId::started_at(3), history: Some(other) };
        assert_eq!(servers.admit(other), Ok(()));
        servers.begin_session(server(1, 5));
        servers.end_session();
        assert_eq!(servers.admit(other), Err(Refused::OtherDatabase));
        let silent = Server { id: ServerId::started_at(4), history: None };
        assert_eq!(servers.admit(silent), Ok(()));
    }

    #[test]
    fn log_lines_are_limited_if_a_load_balancer_alternates_between_servers() {
        let mut known = Known::default();
        let results = [Some(Refused::Standby), Some(Refused::Standby), None, None];
        assert_eq!(results.map(|refused| known.is_news(refused)), [true, false, true, false]);
        let again = [Some(Refused::Standby), None, Some(Refused::Deposed), None];
        assert_eq!(again.map(|refused| known.is_news(refused)), [false; 4]);
        known.refused_since =
            known.refused_since.and_then(|since| since.checked_sub(LOG_AGAIN_AFTER));
        assert!(known.is_news(Some(Refused::Deposed)));
    }

    #[test]
    fn connection_from_before_the_session_is_recognized_by_its_age() {
        let servers = Servers::default();
        assert!(!servers.is_from_before(Duration::from_secs(3600)));
        let epoch = servers.epoch();
        servers.begin_session(server(1, 1));
        assert!(servers.is_from_before(Duration::from_secs(1)));
        assert_ne!(servers.epoch(), epoch);
    }
}
