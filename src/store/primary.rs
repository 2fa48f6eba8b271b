//! Makes sure that connections reach a primary. A standby refuses every write, and its rows may be
//! stale. For example, a key that was revoked on the primary may still be live on the standby.

use sqlx::{Executor, Postgres, Row as _};
use time::OffsetDateTime;
use tracing::debug;

use crate::domain::server::ServerId;

/// The first statement on a connection. It fails on a standby.
pub(super) const REFUSE_STANDBY: &str = "DO $$ BEGIN IF pg_is_in_recovery() THEN \
     RAISE SQLSTATE '25006' USING MESSAGE = 'this server is a standby'; END IF; END $$; ";

/// A server, and its position in the history of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Server {
    pub id: ServerId,
    /// The position in the history. `None` if Postgres does not report it, as in some managed
    /// services.
    pub history: Option<History>,
}

/// The position of a server in the history of a database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct History {
    /// The id of the database. A standby has the same id as its primary.
    pub system: i64,
    /// The timeline, which increases with each promotion of a standby.
    pub timeline: i64,
}

/// Identifies a server by its start time.
pub(super) fn server_started_at(time: OffsetDateTime) -> ServerId {
    let micros = time.unix_timestamp_nanos() / 1000;
    ServerId::started_at(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Identifies the server of this connection.
pub(super) async fn server(
    connection: impl Executor<'_, Database = Postgres>,
) -> Result<ServerId, sqlx::Error> {
    sqlx::query_scalar("SELECT /* primary.server */ pg_postmaster_start_time()")
        .fetch_one(connection)
        .await
        .map(server_started_at)
}

/// Identifies the primary of this connection, and its position in the history.
pub(super) async fn identify<C>(connection: &mut C) -> Result<Server, sqlx::Error>
where
    for<'c> &'c mut C: Executor<'c, Database = Postgres>,
{
    let id = server(&mut *connection).await?;
    let history = sqlx::query_as::<_, (i64, i64)>(
        "SELECT /* primary.identify */ (pg_control_system()).system_identifier,
                ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint",
    )
    .fetch_one(connection)
    .await;
    let history = match history {
        Ok((system, timeline)) => Some(History { system, timeline }),
        Err(error) if error.as_database_error().is_some() => {
            let error = &error as &dyn std::error::Error;
            debug!(error, "Postgres does not report its timeline");
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Server { id, history })
}

/// Whether this server is a standby. Uses one message of the simple query protocol, which also
/// works through a pooler that is not in session mode.
pub(super) async fn is_standby(
    connection: impl Executor<'_, Database = Postgres>,
) -> Result<bool, sqlx::Error> {
    sqlx::raw_sql("SELECT /* primary.is_standby */ pg_is_in_recovery() AS is_standby")
        .fetch_one(connection)
        .await?
        .try_get("is_standby")
}
