use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::ExternalId, id::KeyId, tenant::Tenant, timestamp::Timestamp, usage::UsageOutcome,
    },
    store::{Store, StoreError, clock::stored_time},
};

/// Number of hours in a report. They are whole hours in UTC, and the last one is the current hour.
pub const ACTIVITY_HOURS: usize = 24;

/// Maximum number of purchases that a report adds up for one key.
const MAX_PURCHASES: i64 = 100_000;

const HOUR_SECONDS: i64 = 60 * 60;

/// The use of a key in the last 24 hours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyActivity {
    pub key_id: KeyId,
    /// Number of accepted requests in each hour, oldest first. The last hour is the current one.
    /// Nodes write their counts a few seconds late, so an hour's number of purchases replaces a
    /// smaller count of requests.
    pub calls: [i64; ACTIVITY_HOURS],
    /// Number of requests that were refused.
    pub refused: i64,
    pub purchases: PurchasesByHour,
}

/// The purchases of a key in the last 24 hours, for each hour, oldest first. The last hour is the
/// current one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PurchasesByHour {
    /// The sum of the purchases in minor units of the tenant's currency. Refunds are not deducted.
    pub spent: [i64; ACTIVITY_HOURS],
    /// Number of purchases.
    pub counts: [i64; ACTIVITY_HOURS],
    /// Whether there may be more purchases, because `spent` and `counts` cover only the newest
    /// 100,000.
    pub truncated: bool,
}

impl PurchasesByHour {
    /// Returns the sum of all hours, in minor units.
    #[must_use]
    pub fn total_spent(&self) -> i64 {
        self.spent.iter().fold(0, |sum, spent| sum.saturating_add(*spent))
    }

    /// Returns the number of accepted requests that are missing from the count of an hour. Each
    /// purchase is a request, but nodes write their counts of requests a few seconds late.
    #[must_use]
    pub fn missing_calls(&self, hour: usize, counted: i64) -> i64 {
        (self.counts[hour] - counted).max(0)
    }
}

/// The start of a report: a time, and the seq of the last ledger entry before it.
struct Since {
    moment: Timestamp,
    seq: i64,
}

impl Store {
    /// Reads the use of these keys of an account in the last 24 hours, in the order of the keys.
    /// Usage is written a few seconds late. For each key, only the newest 100,000 purchases are
    /// counted.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn key_activity(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        keys: &[KeyId],
    ) -> Result<Vec<KeyActivity>, StoreError> {
        let _timer = self.timer("key_activity");
        let account_id = tenant.account_id(account);
        let since = self.activity_since(account_id).await?;
        let purchases = self.purchases_by_hour(account_id, keys, &since).await?;
        let mut activities: Vec<KeyActivity> = keys
            .iter()
            .zip(purchases)
            .map(|(key_id, purchases)| KeyActivity {
                key_id: *key_id,
                calls: [0; ACTIVITY_HOURS],
                refused: 0,
                purchases,
            })
            .collect();
        self.add_usage(account_id, since.moment, &mut activities).await?;
        for activity in &mut activities {
            for (hour, calls) in activity.calls.iter_mut().enumerate() {
                *calls += activity.purchases.missing_calls(hour, *calls);
            }
        }
        Ok(activities)
    }

    /// Reads when each of these keys of an account made its newest purchase. The map lacks keys
    /// that have made none.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn newest_purchases(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        keys: &[KeyId],
    ) -> Result<BTreeMap<KeyId, Timestamp>, StoreError> {
        let _timer = self.timer("newest_purchases");
        let account_id = tenant.account_id(account);
        let key_ids = &keys.iter().map(|key| key.uuid()).collect::<Vec<_>>();
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* activity.newest_purchases */
                              k.key_id AS "key_id!", newest.created_at AS "created_at!"
                       FROM unnest($2::uuid[]) AS k (key_id)
                       CROSS JOIN LATERAL (
                           SELECT created_at FROM purchases
                           WHERE account_id = $1 AND key_id = k.key_id
                           ORDER BY seq DESC LIMIT 1) AS newest"#,
                    account_id,
                    key_ids,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let newest = rows.into_iter().map(|row| {
            let created_at = stored_time("purchases.created_at", row.created_at)?;
            Ok((KeyId::from_uuid(row.key_id), created_at))
        });
        newest.collect()
    }

    /// Reads the purchases of a key in the last 24 hours, by hour. Only the newest 100,000 are
    /// counted.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn key_purchases_by_hour(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
    ) -> Result<PurchasesByHour, StoreError> {
        let _timer = self.timer("key_purchases_by_hour");
        let account_id = tenant.account_id(account);
        let since = self.activity_since(account_id).await?;
        let purchases = self.purchases_by_hour(account_id, &[key_id], &since).await?;
        Ok(purchases.into_iter().next().unwrap_or_default())
    }

    /// Reads the purchases of each of these keys, in the order of the keys.
    async fn purchases_by_hour(
        &self,
        account_id: Uuid,
        keys: &[KeyId],
        since: &Since,
    ) -> Result<Vec<PurchasesByHour>, StoreError> {
        let key_ids = &keys.iter().map(|key| key.uuid()).collect::<Vec<_>>();
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* activity.purchases_by_hour */
                              k.key_id AS "key_id!", date_trunc('hour', created_at, 'UTC') AS "hour!",
                              least(sum(amount), 9223372036854775807)::bigint AS "spent!",
                              count(*) AS "purchases!"
                       FROM unnest($2::uuid[]) AS k (key_id)
                       CROSS JOIN LATERAL (
                           SELECT created_at, amount FROM purchases
                           WHERE account_id = $1 AND key_id = k.key_id AND seq > $3
                           ORDER BY seq DESC LIMIT $4) AS newest
                       GROUP BY 1, 2"#,
                    account_id,
                    key_ids,
                    since.seq,
                    MAX_PURCHASES,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let mut by_key = vec![PurchasesByHour::default(); keys.len()];
        for row in rows {
            let Some(place) = keys.iter().position(|key| key.uuid() == row.key_id) else {
                continue;
            };
            let purchases = &mut by_key[place];
            let hour = step_of(stored_time("purchases.created_at", row.hour)?, since.moment);
            purchases.spent[hour] = purchases.spent[hour].saturating_add(row.spent);
            purchases.counts[hour] = purchases.counts[hour].saturating_add(row.purchases);
        }
        for purchases in &mut by_key {
            purchases.truncated = purchases.counts.iter().sum::<i64>() >= MAX_PURCHASES;
        }
        Ok(by_key)
    }

    /// Finds the start of a report. The index of purchases contains seq but no time, so queries use
    /// seq to limit the rows that they read.
    async fn activity_since(&self, account_id: Uuid) -> Result<Since, StoreError> {
        let row = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* activity.activity_since */
                              moment AS "moment!", ledger_seq_before($1, moment) AS "seq!"
                       FROM date_trunc('hour', ledger_now() - interval '23 hours', 'UTC') AS moment"#,
                    account_id,
                )
                .fetch_one(&mut connection)
                .await
            })
            .await?;
        Ok(Since { moment: stored_time("ledger_now()", row.moment)?, seq: row.seq })
    }

    async fn add_usage(
        &self,
        account_id: Uuid,
        since: Timestamp,
        activities: &mut [KeyActivity],
    ) -> Result<(), StoreError> {
        let key_ids = &activities.iter().map(|key| key.key_id.uuid()).collect::<Vec<_>>();
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    "SELECT /* activity.add_usage */ key_id, hour, outcome, count FROM api_key_usage
                     WHERE account_id = $1 AND key_id = ANY ($2) AND hour >= $3",
                    account_id,
                    key_ids,
                    OffsetDateTime::from(since),
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        for row in rows {
            let key_id = KeyId::from_uuid(row.key_id);
            let Some(activity) = activities.iter_mut().find(|key| key.key_id == key_id) else {
                continue;
            };
            let outcome = row
                .outcome
                .parse::<UsageOutcome>()
                .map_err(|error| StoreError::corrupt("api_key_usage.outcome", error))?;
            let hour = stored_time("api_key_usage.hour", row.hour)?;
            let count = match outcome {
                UsageOutcome::Valid => &mut activity.calls[step_of(hour, since)],
                _ => &mut activity.refused,
            };
            *count = count.saturating_add(row.count);
        }
        Ok(())
    }
}

/// Returns the index of the hour that contains a time. A time after the last hour counts toward the
/// last hour.
fn step_of(moment: Timestamp, since: Timestamp) -> usize {
    let seconds = (moment.unix_micros() - since.unix_micros()) / 1_000_000;
    let step = usize::try_from(seconds / HOUR_SECONDS).unwrap_or(0);
    step.min(ACTIVITY_HOURS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moment_is_counted_in_its_hour() {
        let at = |text: &str| Timestamp::parse(text).expect(text);
        let since = at("2026-11-24T22:00:00Z");
        for (moment, step) in [
            ("2026-11-24T22:00:00Z", 0),
            ("2026-11-24T22:59:59.999999Z", 0),
            ("2026-11-24T23:00:00Z", 1),
            ("2026-11-25T21:00:00Z", 23),
            ("2026-11-25T21:40:00Z", 23),
            ("2026-11-25T22:00:00Z", 23),
        ] {
            assert_eq!(step_of(at(moment), since), step, "{moment}");
        }
    }
}
