//! Checks whether a pooler between this process and Postgres is in session mode.
//!
//! Tollgate relies on the state of its sessions: the pinned schema, timeouts, prepared statements,
//! locks of migrations, `LISTEN`. In transaction or statement mode, a pooler assigns each
//! transaction to a different session. The state is then missing, or belongs to another client.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};

use super::{
    Store, explain,
    hosts::place,
    pool::{ConnectError, failed_connection, no_answer},
};

/// Number of times that each connection is queried for its session. Other clients of the pooler may
/// use its sessions at the same time, so one query is not enough.
const ROUNDS: usize = 3;

/// The order in which the two connections are queried. With this order, a pooler that assigns its
/// sessions in a fixed sequence cannot look like two connections with one session each.
const ORDER: [usize; 5] = [0, 1, 0, 0, 1];

impl Store {
    /// Refuses a pooler in `DATABASE_URL` or `TOLLGATE_LISTEN_DATABASE_URL` that is not in session
    /// mode. Call this before the first use of a connection, which changes the settings of the
    /// session. The error [`ConnectError::TooFewConnections`] means that the pooler allows no
    /// second connection.
    ///
    /// If Postgres itself refuses the second connection, there is no pooler, because a pooler would
    /// make the second client wait. In this case, the check returns no error.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn check_pooler(&self) -> Result<(), ConnectError> {
        let options = self.pool.unlimited().connect_options();
        self.check_sessions("DATABASE_URL", &options).await?;
        if self.listener.settings.listen_url.is_some()
            && let Ok(options) = self.listening_host().await
        {
            match self.check_sessions(self.listener.hosts.setting(), &options).await {
                // The listener needs only one connection.
                Err(ConnectError::TooFewConnections { .. }) => {}
                checked => checked?,
            }
        }
        Ok(())
    }

    /// Checks one host of a URL, as [`Self::check_pooler`] does for the chosen hosts.
    pub(super) async fn check_sessions(
        &self,
        setting: &str,
        options: &PgConnectOptions,
    ) -> Result<(), ConnectError> {
        let timeout = self.acquire_timeout();
        let failed = |error| failed_connection(setting, options, &error);
        let first = match tokio::time::timeout(timeout, Asked::connect(options)).await {
            Ok(Ok(first)) => first,
            Ok(Err(error)) if explain::is_too_many_connections(&error) => return Ok(()),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(no_answer(setting, options, timeout)),
        };
        let second = match tokio::time::timeout(timeout, Asked::connect(options)).await {
            Ok(Ok(second)) => second,
            Ok(Err(error)) if explain::is_too_many_connections(&error) => return Ok(()),
            Ok(Err(error)) => return Err(failed(error)),
            Err(_) => return Err(self.no_second_connection(options, timeout)),
        };
        let mut both = [first, second];
        let own = match tokio::time::timeout(timeout, have_own_sessions(&mut both)).await {
            Ok(own) => own.map_err(failed)?,
            Err(_) => return Err(no_answer(setting, options, timeout)),
        };
        for asked in both {
            // It does not matter how these connections are closed.
            let _ = asked.connection.close().await;
        }
        if own { Ok(()) } else { Err(ConnectError::SharedSessions { place: place(options) }) }
    }

    fn no_second_connection(&self, options: &PgConnectOptions, timeout: Duration) -> ConnectError {
        let needed = self.listener.settings.connections_per_node();
        let reason = format!(
            "A second connection got no answer within {timeout:?} while the first one was open. A \
             pooler allows only one (PgBouncer: default_pool_size, pool_size, max_db_connections \
             or max_user_connections). Raise its limit to {needed} for each node"
        );
        ConnectError::TooFewConnections { place: place(options), reason }
    }
}

/// A connection, and the session that responded to its first query.
struct Asked {
    connection: PgConnection,
    session: String,
}

impl Asked {
    async fn connect(options: &PgConnectOptions) -> Result<Self, sqlx::Error> {
        let mut connection = PgConnection::connect_with(options).await?;
        let session = session(&mut connection).await?;
        Ok(Self { connection, session })
    }
}

/// Whether each connection has its own session, and keeps it.
async fn have_own_sessions(both: &mut [Asked; 2]) -> Result<bool, sqlx::Error> {
    if both[0].session == both[1].session {
        return Ok(false);
    }
    for asked in ORDER.repeat(ROUNDS) {
        let asked = &mut both[asked];
        if session(&mut asked.connection).await? != asked.session {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Identifies the session that responds. This uses one message of the simple query protocol,
/// because a different session would lack a prepared statement.
async fn session(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::raw_sql("SELECT /* pooler.session */ pg_backend_pid()::text AS session")
        .fetch_one(connection)
        .await?
        .try_get("session")
}
