//! Makes sure that connections lead to a primary. A standby refuses every write, and its rows may
//! be old: a key that was revoked on the primary may still be live there.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::{info, warn};

use crate::domain::server::ServerId;

/// The first statement on a connection. It fails on a standby.
pub(super) const REFUSE_STANDBY: &str = "DO $$ BEGIN IF pg_is_in_recovery() THEN \
     RAISE SQLSTATE '25006' USING MESSAGE = 'this server is a standby'; END IF; END $$; ";

/// Whether the last connection that was opened led to a standby. All pools of a store share it, so
/// that the log has one line when a standby is met, and one when a primary is reached again.
#[derive(Clone, Default)]
pub(super) struct StandbyLog(Arc<AtomicBool>);

impl StandbyLog {
    /// A connection was opened, and its first statements had this result.
    pub fn opened<T>(&self, result: &Result<T, sqlx::Error>) {
        match result {
            Ok(_) => {
                if self.0.swap(false, Ordering::Relaxed) {
                    info!("new connections lead to a primary again");
                }
            }
            Err(error) if is_read_only(error) => {
                if !self.0.swap(true, Ordering::Relaxed) {
                    warn!(
                        "a new connection leads to a standby and is closed: only a primary is used"
                    );
                }
            }
            Err(error) => warn!(
                error = error as &dyn std::error::Error,
                "a new connection is closed, because its first statements failed"
            ),
        }
    }
}

/// The server that started at this time.
pub(super) fn server_started_at(time: OffsetDateTime) -> ServerId {
    let micros = time.unix_timestamp_nanos() / 1000;
    ServerId::started_at(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// The server of this connection.
pub(super) async fn server(connection: &mut PgConnection) -> Result<ServerId, sqlx::Error> {
    sqlx::query_scalar("SELECT /* primary.server */ pg_postmaster_start_time()")
        .fetch_one(connection)
        .await
        .map(server_started_at)
}

/// Whether this server is a standby.
pub(super) async fn is_standby(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT /* primary.is_standby */ pg_is_in_recovery()")
        .fetch_one(connection)
        .await
}

fn is_read_only(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "25006")
}
