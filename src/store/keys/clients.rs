//! The clients that used a key: the last one, the networks, and the last refusals.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use uuid::Uuid;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        id::KeyId,
        key_clients::{MAX_NETWORKS, MAX_REFUSALS, STORED_DAYS},
        tenant::Tenant,
        timestamp::Timestamp,
        usage::UsageOutcome,
    },
    store::{Store, StoreError, clock::stored_time, connection::Connection},
};

/// Number of keys whose old rows one pass deletes.
const KEYS_IN_A_PASS: i64 = 1000;

/// The client of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedClient {
    pub address: Option<IpAddr>,
    /// At most 100 characters. `None` if the request had no user agent.
    pub user_agent: Option<String>,
    pub route: String,
}

/// The clients that used a key over a period. Times are ages at the time of the write.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct UsedClients {
    pub last: Option<(UsedClient, Duration)>,
    /// The networks, with the ages of the first and the last use.
    pub networks: Vec<(IpNet, Duration, Duration)>,
    /// Oldest first.
    pub refusals: Vec<RefusedClient>,
}

/// Equal refusals of a client, one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedClient {
    pub client: UsedClient,
    pub outcome: UsageOutcome,
    pub first: Duration,
    pub last: Duration,
    pub count: i64,
}

/// The stored clients of a key.
#[derive(Clone, Debug)]
pub struct KeyClients {
    /// The last accepted request. `None` if the key was never accepted.
    pub last: Option<LastClient>,
    /// The networks of the last 30 days, the one that was used last first.
    pub networks: Vec<KeyNetwork>,
    /// The refusals of the last 30 days, newest first.
    pub refusals: Vec<KeyRefusal>,
}

#[derive(Clone, Debug)]
pub struct LastClient {
    pub at: Timestamp,
    pub client: StoredClient,
}

/// A stored client. Each part is `None` if it is unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredClient {
    /// An address, or a network if the tenant truncates addresses.
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub route: Option<String>,
}

#[derive(Clone, Debug)]
pub struct KeyNetwork {
    pub network: String,
    pub first_used_at: Timestamp,
    pub last_used_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct KeyRefusal {
    pub outcome: UsageOutcome,
    pub count: i64,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub client: StoredClient,
}

/// The position of a pass over the keys with stored clients.
#[derive(Clone, Copy, Default, Debug)]
pub struct ClientCursor(Option<(Uuid, Uuid)>);

/// Networks of several keys, one vector per column.
#[derive(Default)]
struct NetworkColumns {
    account_ids: Vec<Uuid>,
    key_ids: Vec<Uuid>,
    networks: Vec<String>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
}

/// Refusals of several keys, one vector per column.
#[derive(Default)]
struct RefusalColumns {
    account_ids: Vec<Uuid>,
    key_ids: Vec<Uuid>,
    outcomes: Vec<String>,
    counts: Vec<i64>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    addresses: Vec<Option<String>>,
    user_agents: Vec<Option<String>>,
    routes: Vec<String>,
}

/// Adds the networks and the refusals of several keys, and deletes the oldest rows of each key that
/// are too many. `used` contains the account, the id and the clients of each key once. The
/// statements write rows in the order of their primary keys, so nodes that write the same rows
/// concurrently cannot deadlock.
pub(super) async fn record<'a>(
    connection: &mut Connection,
    used: impl IntoIterator<Item = (AccountId, KeyId, &'a UsedClients)>,
) -> Result<(), StoreError> {
    let (networks, refusals) = columns(used);
    if !networks.account_ids.is_empty() {
        record_networks(connection, &networks).await?;
    }
    if !refusals.account_ids.is_empty() {
        record_refusals(connection, &refusals).await?;
    }
    Ok(())
}

async fn record_networks(
    connection: &mut Connection,
    columns: &NetworkColumns,
) -> Result<(), StoreError> {
    // The join with api_keys drops unknown keys, which would otherwise fail the statement.
    sqlx::query!(
        "INSERT /* clients.record_networks */
                INTO api_key_networks AS stored (account_id, key_id, network, first_used_at,
                                                 last_used_at)
         SELECT account_id, key_id, network::cidr, now - first * interval '1 microsecond',
                now - last * interval '1 microsecond'
         FROM (SELECT clock_timestamp() AS now) AS moment
              CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[])
                  AS used (account_id, key_id, network, first, last)
              JOIN api_keys USING (account_id, key_id)
              LEFT JOIN dashboard_settings s USING (tenant_id)
         WHERE s.client_addresses IS DISTINCT FROM 'off'
         ORDER BY 1, 2, 3
         ON CONFLICT (account_id, key_id, network) DO UPDATE SET
             first_used_at = least(stored.first_used_at, EXCLUDED.first_used_at),
             last_used_at = greatest(stored.last_used_at, EXCLUDED.last_used_at)",
        &columns.account_ids,
        &columns.key_ids,
        &columns.networks,
        &columns.firsts,
        &columns.lasts,
    )
    .execute(&mut *connection)
    .await?;
    // Rows that another node has locked stay until a later write.
    sqlx::query!(
        "DELETE /* clients.limit_networks */ FROM api_key_networks
         WHERE (account_id, key_id, network) IN (
             SELECT account_id, key_id, surplus.network
             FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[]) AS used (account_id, key_id))
                      AS used
                  CROSS JOIN LATERAL (
                      SELECT n.network FROM api_key_networks n
                      WHERE n.account_id = used.account_id AND n.key_id = used.key_id
                      ORDER BY n.last_used_at DESC, n.network OFFSET $3
                      FOR UPDATE SKIP LOCKED) AS surplus)",
        &columns.account_ids,
        &columns.key_ids,
        MAX_NETWORKS as i64,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn record_refusals(
    connection: &mut Connection,
    columns: &RefusalColumns,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT /* clients.record_refusals */
                INTO api_key_refusals (account_id, key_id, outcome, count, first_at, last_at, address,
                                       user_agent, route)
         SELECT account_id, key_id, outcome, count, now - first * interval '1 microsecond',
                now - last * interval '1 microsecond',
                client_address(s.client_addresses, address::inet), user_agent, route
         FROM (SELECT clock_timestamp() AS now) AS moment
              CROSS JOIN unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[],
                                $6::bigint[], $7::text[], $8::text[], $9::text[])
                  WITH ORDINALITY AS refused (account_id, key_id, outcome, count, first, last, address,
                                              user_agent, route, place)
              JOIN api_keys USING (account_id, key_id)
              LEFT JOIN dashboard_settings s USING (tenant_id)
         ORDER BY refused.place",
        &columns.account_ids,
        &columns.key_ids,
        &columns.outcomes,
        &columns.counts,
        &columns.firsts,
        &columns.lasts,
        &columns.addresses as &[Option<String>],
        &columns.user_agents as &[Option<String>],
        &columns.routes,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE /* clients.limit_refusals */ FROM api_key_refusals
         WHERE (account_id, key_id, number) IN (
             SELECT account_id, key_id, surplus.number
             FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[]) AS used (account_id, key_id))
                      AS used
                  CROSS JOIN LATERAL (
                      SELECT r.number FROM api_key_refusals r
                      WHERE r.account_id = used.account_id AND r.key_id = used.key_id
                      ORDER BY r.number DESC OFFSET $3
                      FOR UPDATE SKIP LOCKED) AS surplus)",
        &columns.account_ids,
        &columns.key_ids,
        MAX_REFUSALS as i64,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns an age in the unit of the statements.
pub(super) fn micros(age: Duration) -> i64 {
    i64::try_from(age.as_micros()).expect("no machine is up for 292,000 years")
}

fn columns<'a>(
    used: impl IntoIterator<Item = (AccountId, KeyId, &'a UsedClients)>,
) -> (NetworkColumns, RefusalColumns) {
    let (mut networks, mut refusals) = (NetworkColumns::default(), RefusalColumns::default());
    for (account_id, key_id, clients) in used {
        let (account_id, key_id) = (account_id.uuid(), key_id.uuid());
        for (network, first, last) in &clients.networks {
            networks.account_ids.push(account_id);
            networks.key_ids.push(key_id);
            networks.networks.push(network.to_string());
            networks.firsts.push(micros(*first));
            networks.lasts.push(micros(*last));
        }
        for refused in &clients.refusals {
            refusals.account_ids.push(account_id);
            refusals.key_ids.push(key_id);
            refusals.outcomes.push(refused.outcome.as_str().to_owned());
            refusals.counts.push(refused.count);
            refusals.firsts.push(micros(refused.first));
            refusals.lasts.push(micros(refused.last));
            refusals.addresses.push(refused.client.address.map(|address| address.to_string()));
            refusals.user_agents.push(refused.client.user_agent.clone());
            refusals.routes.push(refused.client.route.clone());
        }
    }
    (networks, refusals)
}

impl Store {
    /// Reads the clients of a key, as far as the tenant's settings show addresses.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn key_clients(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
    ) -> Result<KeyClients, StoreError> {
        self.find_api_key(tenant, account, key_id).await?;
        let _timer = self.timer("key_clients");
        let account_id = tenant.account_id(account);
        let tenant_id = tenant.id.uuid();
        let (last, networks, refusals) = self
            .read(|mut connection| async move {
                let last = sqlx::query!(
                    r#"SELECT /* clients.last */
                              u.last_used_at, u.user_agent, u.route,
                              abbrev(client_address(s.client_addresses, u.address)) AS address
                       FROM api_key_last_used u
                            LEFT JOIN dashboard_settings s ON s.tenant_id = $3
                       WHERE u.account_id = $1 AND u.key_id = $2"#,
                    account_id,
                    key_id.uuid(),
                    tenant_id,
                )
                .fetch_optional(&mut connection)
                .await?;
                let networks = sqlx::query!(
                    r#"SELECT /* clients.networks */
                              n.network::text AS "network!", n.first_used_at, n.last_used_at
                       FROM api_key_networks n
                            LEFT JOIN dashboard_settings s ON s.tenant_id = $3
                       WHERE n.account_id = $1 AND n.key_id = $2
                         AND s.client_addresses IS DISTINCT FROM 'off'
                         AND n.last_used_at > clock_timestamp() - $4::int * interval '1 day'
                       ORDER BY n.last_used_at DESC, n.network LIMIT $5"#,
                    account_id,
                    key_id.uuid(),
                    tenant_id,
                    STORED_DAYS,
                    MAX_NETWORKS as i64,
                )
                .fetch_all(&mut connection)
                .await?;
                let refusals = sqlx::query!(
                    r#"SELECT /* clients.refusals */
                              r.outcome, r.count, r.first_at, r.last_at, r.user_agent, r.route,
                              abbrev(client_address(s.client_addresses, r.address)) AS address
                       FROM api_key_refusals r
                            LEFT JOIN dashboard_settings s ON s.tenant_id = $3
                       WHERE r.account_id = $1 AND r.key_id = $2
                         AND r.last_at > clock_timestamp() - $4::int * interval '1 day'
                       ORDER BY r.last_at DESC, r.number DESC LIMIT $5"#,
                    account_id,
                    key_id.uuid(),
                    tenant_id,
                    STORED_DAYS,
                    MAX_REFUSALS as i64,
                )
                .fetch_all(&mut connection)
                .await?;
                Ok((last, networks, refusals))
            })
            .await?;
        let last = last.map(|row| {
            Ok::<_, StoreError>(LastClient {
                at: stored_time("api_key_last_used.last_used_at", row.last_used_at)?,
                client: StoredClient {
                    address: row.address,
                    user_agent: row.user_agent,
                    route: row.route,
                },
            })
        });
        let networks = networks.into_iter().map(|row| {
            Ok(KeyNetwork {
                network: row.network,
                first_used_at: stored_time("api_key_networks.first_used_at", row.first_used_at)?,
                last_used_at: stored_time("api_key_networks.last_used_at", row.last_used_at)?,
            })
        });
        let refusals = refusals.into_iter().map(|row| {
            let corrupt = |error| StoreError::corrupt("api_key_refusals.outcome", error);
            Ok(KeyRefusal {
                outcome: row.outcome.parse().map_err(corrupt)?,
                count: row.count,
                first_at: stored_time("api_key_refusals.first_at", row.first_at)?,
                last_at: stored_time("api_key_refusals.last_at", row.last_at)?,
                client: StoredClient {
                    address: row.address,
                    user_agent: row.user_agent,
                    route: row.route,
                },
            })
        });
        Ok(KeyClients {
            last: last.transpose()?,
            networks: networks.collect::<Result<_, StoreError>>()?,
            refusals: refusals.collect::<Result<_, StoreError>>()?,
        })
    }

    /// Deletes networks and refusals that are older than 30 days. Reads the rows of a limited number
    /// of keys, and returns the position from which the next call continues.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn delete_old_clients(
        &self,
        cursor: ClientCursor,
    ) -> Result<ClientCursor, StoreError> {
        let _timer = self.timer("delete_old_clients");
        let (account, key) = cursor.0.unwrap_or((Uuid::nil(), Uuid::nil()));
        let mut tx = self.begin().await?;
        let last = sqlx::query!(
            "SELECT /* clients.next_keys */ account_id, key_id FROM api_key_last_used
             WHERE (account_id, key_id) > ($1, $2)
             ORDER BY account_id, key_id OFFSET $3::bigint - 1 LIMIT 1",
            account,
            key,
            KEYS_IN_A_PASS,
        )
        .fetch_optional(&mut *tx)
        .await?
        .map(|row| (row.account_id, row.key_id));
        // In the last pass, the position is after every key.
        let (last_account, last_key) = last.unwrap_or((Uuid::max(), Uuid::max()));
        // Rows that another node has locked are left to a later pass, so that passes and writes of
        // different nodes cannot deadlock.
        sqlx::query!(
            "DELETE /* clients.delete_old_networks */ FROM api_key_networks
             WHERE (account_id, key_id, network) IN (
                 SELECT account_id, key_id, network FROM api_key_networks
                 WHERE (account_id, key_id) > ($1, $2) AND (account_id, key_id) <= ($3, $4)
                   AND last_used_at <= clock_timestamp() - $5::int * interval '1 day'
                 FOR UPDATE SKIP LOCKED)",
            account,
            key,
            last_account,
            last_key,
            STORED_DAYS,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "DELETE /* clients.delete_old_refusals */ FROM api_key_refusals
             WHERE (account_id, key_id, number) IN (
                 SELECT account_id, key_id, number FROM api_key_refusals
                 WHERE (account_id, key_id) > ($1, $2) AND (account_id, key_id) <= ($3, $4)
                   AND last_at <= clock_timestamp() - $5::int * interval '1 day'
                 FOR UPDATE SKIP LOCKED)",
            account,
            key,
            last_account,
            last_key,
            STORED_DAYS,
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(ClientCursor(last))
    }
}
