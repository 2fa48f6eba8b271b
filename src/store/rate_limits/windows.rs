use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::timestamp::Timestamp,
    store::{
        Store, StoreError,
        clock::stored_time,
        window_tag::{WindowTag, window_tag},
    },
};

/// Number of rows that one pass over the windows reads.
const ROWS_IN_A_PASS: i64 = 5000;

/// The position of a pass over all windows.
#[derive(Clone, Default, Debug)]
pub struct WindowCursor(Option<(Uuid, Uuid, String)>);

/// The running window of a rate limit.
#[derive(Clone, Debug)]
pub struct LimitWindow {
    pub account: Uuid,
    pub holder: Uuid,
    /// The requested keys that share the window. Empty for the window of an account.
    pub keys: Vec<Uuid>,
    pub name: String,
    pub number: i64,
    /// The calls that all nodes were given in the window, without those that they returned.
    pub given: u32,
    pub ends_at: Timestamp,
    /// Seconds until the window ends, rounded up.
    pub ends_in: u32,
}

impl LimitWindow {
    /// Returns the tag of the window, as [`LimitRow::tag`](super::shares::LimitRow::tag) does.
    #[must_use]
    pub fn tag(&self) -> WindowTag {
        window_tag(self.account, self.holder, &self.name)
    }
}

impl Store {
    /// Reads the running windows of these accounts and of these keys of the accounts.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_limit_windows(
        &self,
        accounts: &[Uuid],
        keys: &[Uuid],
    ) -> Result<Vec<LimitWindow>, StoreError> {
        let _timer = self.timer("find_limit_windows");
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* rate_limits.find_windows */
                              w.account_id, w.holder_id, w.name, w.number, w.given,
                              w.began_at + w.window_seconds * interval '1 second' AS "ends_at!",
                              clock_timestamp() AS "now!",
                              ARRAY(SELECT k.key_id FROM api_keys k
                                    WHERE k.account_id = w.account_id AND k.key_id = ANY ($2)
                                      AND coalesce(k.spends_as, k.key_id) = w.holder_id) AS "keys!"
                       FROM (SELECT id AS account_id, id AS holder_id FROM unnest($1::uuid[]) AS id
                             UNION
                             SELECT account_id, coalesce(spends_as, key_id) FROM api_keys
                             WHERE account_id = ANY ($1) AND key_id = ANY ($2)) AS holder
                            JOIN rate_limit_windows w USING (account_id, holder_id)"#,
                    accounts,
                    keys,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let running = rows.into_iter().filter(|row| row.now < row.ends_at);
        let window = running.map(|row| {
            Ok(LimitWindow {
                account: row.account_id,
                holder: row.holder_id,
                keys: row.keys,
                name: row.name,
                number: row.number,
                given: row.given.max(0).unsigned_abs(),
                ends_at: stored_time("rate_limit_windows.began_at", row.ends_at)?,
                ends_in: seconds_until(row.ends_at, row.now),
            })
        });
        window.collect()
    }

    /// Deletes windows that ended more than an hour ago. Reads a limited number of rows, and
    /// returns the position from which the next call continues.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn delete_old_windows(
        &self,
        cursor: WindowCursor,
    ) -> Result<WindowCursor, StoreError> {
        let _timer = self.timer("delete_old_windows");
        let (account, holder, name) = cursor.0.unwrap_or((Uuid::nil(), Uuid::nil(), String::new()));
        let name = &name;
        let last = async {
            let mut connection = self.shares.acquire().await?;
            let last = sqlx::query!(
                "SELECT /* rate_limits.next_windows */ account_id, holder_id, name
                     FROM rate_limit_windows
                     WHERE (account_id, holder_id, name) > ($1, $2, $3)
                     ORDER BY account_id, holder_id, name
                     OFFSET $4::bigint - 1 LIMIT 1",
                account,
                holder,
                name,
                ROWS_IN_A_PASS,
            )
            .fetch_optional(&mut connection)
            .await?
            .map(|row| (row.account_id, row.holder_id, row.name));
            // In the last pass, the position is after every name.
            let (last_account, last_holder, last_name) =
                last.clone().unwrap_or((Uuid::max(), Uuid::max(), "~".to_owned()));
            sqlx::query!(
                "DELETE /* rate_limits.delete_old_windows */ FROM rate_limit_windows
                     WHERE (account_id, holder_id, name) IN (
                         SELECT account_id, holder_id, name FROM rate_limit_windows
                         WHERE (account_id, holder_id, name) > ($1, $2, $3)
                           AND (account_id, holder_id, name) <= ($4, $5, $6)
                           AND began_at + window_seconds * interval '1 second'
                               < clock_timestamp() - interval '1 hour'
                         FOR UPDATE SKIP LOCKED)",
                account,
                holder,
                name,
                last_account,
                last_holder,
                last_name,
            )
            .execute(&mut connection)
            .await?;
            Ok::<_, sqlx::Error>(last)
        }
        .await?;
        Ok(WindowCursor(last))
    }
}

fn seconds_until(end: OffsetDateTime, now: OffsetDateTime) -> u32 {
    let micros = (end - now).whole_microseconds().max(0);
    u32::try_from((micros + 999_999) / 1_000_000).unwrap_or(u32::MAX)
}
