use time::OffsetDateTime;

use super::{StoreError, connection::Connection};
use crate::domain::timestamp::Timestamp;

/// Returns the time by the database's clock when this statement runs, not when the transaction
/// began.
pub(super) async fn now(connection: &mut Connection) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar!(r#"SELECT /* clock.now */ clock_timestamp() AS "now!""#)
        .fetch_one(connection)
        .await?;
    Timestamp::try_from(now).map_err(|error| StoreError::corrupt("clock_timestamp()", error))
}

/// Converts a stored time.
pub(super) fn stored_time(
    column: &'static str,
    moment: OffsetDateTime,
) -> Result<Timestamp, StoreError> {
    Timestamp::try_from(moment).map_err(|error| StoreError::corrupt(column, error))
}
