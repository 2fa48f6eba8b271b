//! Finds ledger entries and revocations that this node acknowledged but the database lost. A
//! promoted asynchronous standby can lack the newest commits of the old primary.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Store, StoreError,
    acknowledged::{Acknowledged, AcknowledgedEntry, AcknowledgedRevoke},
    connection::Connection,
    primary::server_started_at,
};
use crate::domain::server::ServerId;

/// Maximum number of entries or revocations in one statement.
pub const MAX_LOOKED_FOR: usize = 500;

impl Store {
    /// Returns the entries and revocations that this node acknowledged recently.
    #[must_use]
    pub fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// Finds the given entries that this server lacks. Pass at most [`MAX_LOOKED_FOR`] entries. An
    /// entry with the same seq but another cause also counts as lost.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_lost_entries(
        &self,
        server: ServerId,
        entries: &[AcknowledgedEntry],
    ) -> Result<Vec<AcknowledgedEntry>, StoreError> {
        let _timer = self.timer("find_lost_entries");
        let account_ids: Vec<Uuid> = entries.iter().map(|entry| entry.account_id.uuid()).collect();
        let seqs: Vec<i64> = entries.iter().map(|entry| entry.seq).collect();
        let cause_ids: Vec<Uuid> = entries.iter().map(|entry| entry.cause.uuid()).collect();
        let (account_ids, seqs, cause_ids) = (&account_ids[..], &seqs[..], &cause_ids[..]);
        let places = self
            .read_until_answered(|mut connection| async move {
                let rows = sqlx::query!(
                    r#"SELECT /* lost_tail.find_lost_entries */
                              pg_postmaster_start_time() AS "server!", lost.place AS "place?"
                       FROM (SELECT) AS answer LEFT JOIN (
                           SELECT a.place
                           FROM unnest($1::uuid[], $2::bigint[], $3::uuid[])
                                WITH ORDINALITY AS a (account_id, seq, cause_id, place)
                           WHERE (SELECT e.cause_id = a.cause_id FROM ledger_entries e
                                  WHERE e.account_id = a.account_id AND e.seq = a.seq
                                 ) IS NOT TRUE) AS lost ON true
                       ORDER BY lost.place"#,
                    account_ids,
                    seqs,
                    cause_ids,
                )
                .fetch_all(&mut connection)
                .await?;
                let rows = rows.into_iter().map(|row| (row.server, row.place));
                Ok(places_on(server, rows, &mut connection))
            })
            .await?;
        Ok(at_places(entries, places).copied().collect())
    }

    /// Finds the given revocations that this server lacks. Pass at most [`MAX_LOOKED_FOR`]
    /// revocations. A revocation is lost if the key exists on the server and the key is live.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn find_lost_revokes(
        &self,
        server: ServerId,
        revokes: &[AcknowledgedRevoke],
    ) -> Result<Vec<AcknowledgedRevoke>, StoreError> {
        let _timer = self.timer("find_lost_revokes");
        let account_ids: Vec<Uuid> =
            revokes.iter().map(|revoke| revoke.account_id().uuid()).collect();
        let key_ids: Vec<Uuid> = revokes.iter().map(|revoke| revoke.key_id.uuid()).collect();
        let (account_ids, key_ids) = (&account_ids[..], &key_ids[..]);
        let places = self
            .read_until_answered(|mut connection| async move {
                let rows = sqlx::query!(
                    r#"SELECT /* lost_tail.find_lost_revokes */
                              pg_postmaster_start_time() AS "server!", lost.place AS "place?"
                       FROM (SELECT) AS answer LEFT JOIN (
                           SELECT a.place
                           FROM unnest($1::uuid[], $2::uuid[])
                                WITH ORDINALITY AS a (account_id, key_id, place)
                           WHERE (SELECT key_is_live(k.revoked_at, k.expires_at, clock_timestamp())
                                  FROM api_keys k
                                  WHERE k.account_id = a.account_id AND k.key_id = a.key_id
                                 )) AS lost ON true
                       ORDER BY lost.place"#,
                    account_ids,
                    key_ids,
                )
                .fetch_all(&mut connection)
                .await?;
                let rows = rows.into_iter().map(|row| (row.server, row.place));
                Ok(places_on(server, rows, &mut connection))
            })
            .await?;
        Ok(at_places(revokes, places).cloned().collect())
    }

    /// Repeats a lost revocation, on behalf of its origin. The audit event says why. Revocations
    /// are permanent, so only a failover can have made the key live again.
    #[tracing::instrument(level = "debug", skip_all, fields(key_id = %revoke.key_id))]
    pub async fn repeat_revoke(&self, revoke: &AcknowledgedRevoke) -> Result<(), StoreError> {
        let _timer = self.timer("repeat_revoke");
        let AcknowledgedRevoke { tenant_id, account, key_id, reason, void_reason, origin } = revoke;
        let tenant = self.tenant_by_id(*tenant_id).await?;
        let account = self.account(&tenant, account, origin);
        account.revoke(*key_id, reason.as_ref(), *void_reason, true).await.map(drop)
    }

    /// Repeats a read until it returns a result. `None` from the read means that another server
    /// responded, and that the connection to it is closed.
    async fn read_until_answered<F, Fut>(&self, run: F) -> Result<Vec<i64>, StoreError>
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = Result<Option<Vec<i64>>, sqlx::Error>>,
    {
        for _ in 0..=self.pool_state().max {
            if let Some(answer) = self.read(&run).await? {
                return Ok(answer);
            }
        }
        let reason = "DATABASE_URL connects to a different server than the listening session";
        Err(StoreError::Unavailable(reason.into()))
    }
}

/// Reads the positions in the rows of a statement. Each row contains the server that responded. If
/// that is not the wanted server, closes the connection to it and returns `None`.
fn places_on(
    wanted: ServerId,
    rows: impl Iterator<Item = (OffsetDateTime, Option<i64>)>,
    connection: &mut Connection,
) -> Option<Vec<i64>> {
    let mut places = Vec::new();
    for (server, place) in rows {
        if server_started_at(server) != wanted {
            connection.close_on_drop();
            return None;
        }
        places.extend(place);
    }
    Some(places)
}

/// Returns the items at these positions, which start at 1.
fn at_places<T>(items: &[T], places: Vec<i64>) -> impl Iterator<Item = &T> {
    places.into_iter().filter_map(move |place| items.get(usize::try_from(place - 1).ok()?))
}
