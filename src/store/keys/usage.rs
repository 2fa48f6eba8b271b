use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;
use uuid::Uuid;

use super::clients::{self, UsedClients, micros};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        id::KeyId,
        tenant::Tenant,
        timestamp::Timestamp,
        usage::{OutcomeCounts, UsageOutcome, UsageRange},
    },
    store::{Store, StoreError, clock::stored_time},
};

/// The use of a key over a period.
#[derive(Clone, Debug)]
pub struct KeyUse {
    pub account_id: AccountId,
    pub key_id: KeyId,
    pub counts: OutcomeCounts,
    /// The time since the beginning of the period. The counts belong to the hour in which the
    /// period began.
    pub began: Duration,
    /// The time since the key was last accepted. `None` if it was not accepted in this period.
    pub passed: Option<Duration>,
    /// The clients that sent the requests.
    pub clients: UsedClients,
}

/// New rows of `api_key_usage`, one vector per column.
#[derive(Default)]
struct CountColumns {
    account_ids: Vec<Uuid>,
    key_ids: Vec<Uuid>,
    ages: Vec<i64>,
    outcomes: Vec<String>,
    counts: Vec<i64>,
}

/// New rows of `api_key_last_used`, one vector per column.
#[derive(Default)]
struct LastUsedColumns {
    account_ids: Vec<Uuid>,
    key_ids: Vec<Uuid>,
    ages: Vec<i64>,
    addresses: Vec<Option<String>>,
    user_agents: Vec<Option<String>>,
    routes: Vec<Option<String>>,
}

impl Store {
    /// Adds the use of keys, which may belong to different accounts. Each key may occur only once.
    /// Returns the time by the database's clock.
    ///
    /// The statement writes rows in the order of their primary keys, so nodes that write the same
    /// rows concurrently cannot deadlock. It skips a row of `api_key_last_used` that would change
    /// by less than a minute, unless the client has changed.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn record_usage(&self, uses: &[KeyUse]) -> Result<Timestamp, StoreError> {
        let _timer = self.timer("record_usage");
        let (counts, last_used) = columns(uses);
        let mut tx = self.begin().await?;
        // The join with api_keys drops unknown keys, which would otherwise fail the statement.
        let now = sqlx::query_scalar!(
            r#"WITH /* usage.record_usage */
                    moment AS MATERIALIZED (SELECT clock_timestamp() AS now),
               counted AS (
                   INSERT INTO api_key_usage AS stored (account_id, key_id, hour, outcome, count)
                   SELECT account_id, key_id,
                          date_trunc('hour', now - age * interval '1 microsecond', 'UTC'),
                          outcome, count
                   FROM moment
                        CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[],
                                          $5::bigint[])
                            AS uses (account_id, key_id, age, outcome, count)
                        JOIN api_keys USING (account_id, key_id)
                   ORDER BY 1, 2, 3, 4
                   ON CONFLICT (account_id, key_id, hour, outcome)
                       DO UPDATE SET count = stored.count + EXCLUDED.count),
               last_used AS (
                   INSERT INTO api_key_last_used AS stored (account_id, key_id, last_used_at,
                                                            address, user_agent, route)
                   SELECT account_id, key_id, used_at, used.address, uses.user_agent, uses.route
                   FROM moment
                        CROSS JOIN unnest($6::uuid[], $7::uuid[], $8::bigint[], $9::text[],
                                          $10::text[], $11::text[])
                            AS uses (account_id, key_id, age, address, user_agent, route)
                        JOIN api_keys k USING (account_id, key_id)
                        LEFT JOIN dashboard_settings s ON s.tenant_id = k.tenant_id
                        CROSS JOIN LATERAL (
                            SELECT now - age * interval '1 microsecond',
                                   client_address(s.client_addresses, uses.address::inet))
                            AS used (used_at, address)
                        LEFT JOIN api_key_last_used AS known USING (account_id, key_id)
                   WHERE known.last_used_at IS NULL
                      OR known.last_used_at <= used_at - interval '1 minute'
                      OR known.last_used_at < used_at
                         AND (known.address, known.user_agent, known.route)
                             IS DISTINCT FROM (used.address, uses.user_agent, uses.route)
                   ORDER BY 1, 2
                   ON CONFLICT (account_id, key_id)
                       DO UPDATE SET last_used_at = EXCLUDED.last_used_at,
                           address = EXCLUDED.address, user_agent = EXCLUDED.user_agent,
                           route = EXCLUDED.route
                       WHERE stored.last_used_at < EXCLUDED.last_used_at)
               SELECT now AS "now!" FROM moment"#,
            &counts.account_ids,
            &counts.key_ids,
            &counts.ages,
            &counts.outcomes,
            &counts.counts,
            &last_used.account_ids,
            &last_used.key_ids,
            &last_used.ages,
            &last_used.addresses as &[Option<String>],
            &last_used.user_agents as &[Option<String>],
            &last_used.routes as &[Option<String>],
        )
        .fetch_one(&mut *tx)
        .await?;
        let used = uses.iter().map(|key| (key.account_id, key.key_id, &key.clients));
        clients::record(&mut tx, used).await?;
        tx.commit().await?;
        stored_time("clock_timestamp()", now)
    }

    /// Reads the counts of a key's use for each step of a range, by the beginning of the step.
    /// Steps without use are omitted.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn key_usage(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
        range: &UsageRange,
    ) -> Result<BTreeMap<Timestamp, OutcomeCounts>, StoreError> {
        self.find_api_key(tenant, account, key_id).await?;
        let _timer = self.timer("key_usage");
        let account_id = tenant.account_id(account);
        let rows = self
            .read(|mut connection| async move {
                sqlx::query!(
                    r#"SELECT /* usage.key_usage */
                              date_trunc($3, hour, 'UTC') AS "start!", outcome,
                              sum(count)::bigint AS "count!"
                       FROM api_key_usage
                       WHERE account_id = $1 AND key_id = $2 AND hour >= $4 AND hour < $5
                       GROUP BY 1, 2"#,
                    account_id,
                    key_id.uuid(),
                    range.granularity().as_str(),
                    OffsetDateTime::from(range.from()),
                    OffsetDateTime::from(range.to()),
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        let mut steps: BTreeMap<Timestamp, OutcomeCounts> = BTreeMap::new();
        for row in rows {
            let start = stored_time("api_key_usage.hour", row.start)?;
            let outcome = row
                .outcome
                .parse::<UsageOutcome>()
                .map_err(|error| StoreError::corrupt("api_key_usage.outcome", error))?;
            steps.entry(start).or_default().add(outcome, row.count);
        }
        Ok(steps)
    }
}

fn columns(uses: &[KeyUse]) -> (CountColumns, LastUsedColumns) {
    let (mut counts, mut last_used) = (CountColumns::default(), LastUsedColumns::default());
    for key in uses {
        for (outcome, count) in key.counts.iter().filter(|(_, count)| *count > 0) {
            counts.account_ids.push(key.account_id.uuid());
            counts.key_ids.push(key.key_id.uuid());
            counts.ages.push(micros(key.began));
            counts.outcomes.push(outcome.as_str().to_owned());
            counts.counts.push(count);
        }
        if let Some(passed) = key.passed {
            last_used.account_ids.push(key.account_id.uuid());
            last_used.key_ids.push(key.key_id.uuid());
            last_used.ages.push(micros(passed));
            let client = key.clients.last.as_ref().map(|(client, _)| client);
            let address = client.and_then(|client| client.address);
            last_used.addresses.push(address.map(|address| address.to_string()));
            last_used.user_agents.push(client.and_then(|client| client.user_agent.clone()));
            last_used.routes.push(client.map(|client| client.route.clone()));
        }
    }
    (counts, last_used)
}
