use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::gathered::{Read, Row};
use crate::{
    domain::dashboard::IDLE_SECONDS,
    store::{
        limit_sets::{LimitGenerations, StoredLimits},
        primary::server_started_at,
    },
};

/// Converts the rows of a statement. Each row contains the server that responded. If nothing was
/// found, there is one row without a hash.
macro_rules! read {
    ($rows:expr, $row:ident => $stored:expr) => {{
        let rows = $rows;
        let server = rows.first().map(|row| server_started_at(row.server));
        Ok(Read {
            server: server.ok_or(sqlx::Error::RowNotFound)?,
            rows: rows.into_iter().filter_map(|$row| Some($stored)).collect(),
        })
    }};
}

/// A stored API key and its account.
pub(in crate::store) struct KeyAndAccount {
    pub key_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub key_id: Uuid,
    pub scopes: Vec<String>,
    pub enabled: bool,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub account_id: Uuid,
    pub external_id: String,
    pub status: String,
    pub tenant_status: String,
    /// The first key of the chain of rotations.
    pub chain: Uuid,
    pub key_allowed_ips: Option<Vec<String>>,
    pub account_allowed_ips: Option<Vec<String>>,
    pub limits: StoredLimits,
    pub generations: LimitGenerations,
    /// The time by the database's clock when the row was read.
    pub now: OffsetDateTime,
}

impl Row for KeyAndAccount {
    fn hash(&self) -> &[u8] {
        &self.key_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Read<Self>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"SELECT /* lookups.api_keys */
                      pg_postmaster_start_time() AS "server!", clock_timestamp() AS "now!",
                      k.key_hash AS "key_hash?", k.tenant_id AS "tenant_id?",
                      k.key_id AS "key_id?", k.scopes AS "scopes?", k.enabled AS "enabled?",
                      k.expires_at AS "expires_at?", k.revoked_at AS "revoked_at?",
                      a.account_id AS "account_id?", a.external_id AS "external_id?",
                      a.status AS "status?", p.status AS "tenant_status?",
                      coalesce(k.spends_as, k.key_id) AS "chain?",
                      k.allowed_ips::text[] AS key_allowed_ips,
                      a.allowed_ips::text[] AS account_allowed_ips,
                      k.rate_limits::text AS key_limits, k.owner_rate_limits::text AS owner_limits,
                      a.rate_limits::text AS account_limits,
                      nullif(t.rate_limits, '[]')::text AS tenant_limits,
                      nullif(l.key_rate_limits, '[]')::text AS key_defaults,
                      nullif(l.account_rate_limits, '[]')::text AS account_defaults,
                      k.limits_generation AS "key_generation?",
                      a.limits_generation AS "account_generation?",
                      a.plan_generation + l.limits_generation AS plan_generation,
                      t.limits_generation AS "tenant_generation?"
               FROM (SELECT) AS answer
                    LEFT JOIN (api_keys k JOIN accounts a USING (account_id)
                               JOIN tenants p ON p.tenant_id = k.tenant_id
                               JOIN plans l ON l.tenant_id = a.tenant_id AND l.name = a.plan
                               LEFT JOIN tenant_limits t ON t.tenant_id = k.tenant_id)
                    ON k.key_hash = ANY($1)"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await?;
        read!(rows, row => Self {
            key_hash: row.key_hash?,
            tenant_id: row.tenant_id?,
            key_id: row.key_id?,
            scopes: row.scopes?,
            enabled: row.enabled?,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            account_id: row.account_id?,
            external_id: row.external_id?,
            status: row.status?,
            tenant_status: row.tenant_status?,
            chain: row.chain?,
            key_allowed_ips: row.key_allowed_ips,
            account_allowed_ips: row.account_allowed_ips,
            limits: StoredLimits {
                key: row.key_limits,
                owner: row.owner_limits,
                account: row.account_limits,
                tenant: row.tenant_limits,
                key_defaults: row.key_defaults,
                account_defaults: row.account_defaults,
            },
            generations: LimitGenerations {
                key: row.key_generation?,
                account: row.account_generation?,
                plan: row.plan_generation?,
                tenant: row.tenant_generation.unwrap_or(0),
            },
            now: row.now,
        })
    }
}

/// A stored admin key, revoked or not.
pub(in crate::store) struct StoredAdminKey {
    pub key_hash: Vec<u8>,
    pub admin_key_id: Uuid,
    pub tenant_id: Uuid,
    pub permissions: Vec<String>,
    pub revoked: bool,
    pub tenant_status: String,
    /// The time by the database's clock when the row was read.
    pub now: OffsetDateTime,
}

impl Row for StoredAdminKey {
    fn hash(&self) -> &[u8] {
        &self.key_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Read<Self>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"SELECT /* lookups.admin_keys */
                      pg_postmaster_start_time() AS "server!", clock_timestamp() AS "now!",
                      k.key_hash AS "key_hash?", k.admin_key_id AS "admin_key_id?",
                      k.tenant_id AS "tenant_id?", k.permissions AS "permissions?",
                      k.revoked_at IS NOT NULL AS "revoked!", t.status AS "tenant_status?"
               FROM (SELECT) AS answer
                    LEFT JOIN (admin_keys k JOIN tenants t USING (tenant_id))
                    ON k.key_hash = ANY($1)"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await?;
        read!(rows, row => Self {
            key_hash: row.key_hash?,
            admin_key_id: row.admin_key_id?,
            tenant_id: row.tenant_id?,
            permissions: row.permissions?,
            revoked: row.revoked,
            tenant_status: row.tenant_status?,
            now: row.now,
        })
    }
}

/// A live dashboard session and its account. A session that has ended is not found.
pub(in crate::store) struct StoredSession {
    pub token_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub external_id: String,
    pub status: String,
    pub tenant_status: String,
    pub return_url: Option<String>,
    pub way: String,
    /// The permissions of the admin key that created the link.
    pub permissions: Option<Vec<String>>,
    pub created_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
    /// The time by the database's clock when the row was read.
    pub now: OffsetDateTime,
}

impl Row for StoredSession {
    fn hash(&self) -> &[u8] {
        &self.token_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Read<Self>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"SELECT /* lookups.sessions */
                      pg_postmaster_start_time() AS "server!", clock_timestamp() AS "now!",
                      s.token_hash AS "token_hash?", s.tenant_id AS "tenant_id?",
                      a.external_id AS "external_id?", a.status AS "status?",
                      t.status AS "tenant_status?", s.return_url AS "return_url?", s.way AS "way?",
                      maker.permissions AS "permissions?", s.created_at AS "created_at?",
                      s.last_seen_at AS "last_seen_at?"
               FROM (SELECT) AS answer
                    LEFT JOIN (dashboard_sessions s JOIN accounts a USING (account_id)
                               JOIN tenants t ON t.tenant_id = s.tenant_id
                               LEFT JOIN admin_keys maker ON maker.admin_key_id = s.admin_key_id)
                    ON s.token_hash = ANY($1) AND maker.revoked_at IS NULL
                       AND s.expires_at > clock_timestamp()
                       AND s.last_seen_at
                           > clock_timestamp() - $2::bigint * interval '1 second'"#,
            hashes as &[&[u8]],
            IDLE_SECONDS,
        )
        .fetch_all(connection)
        .await?;
        read!(rows, row => Self {
            token_hash: row.token_hash?,
            tenant_id: row.tenant_id?,
            external_id: row.external_id?,
            status: row.status?,
            tenant_status: row.tenant_status?,
            return_url: row.return_url,
            way: row.way?,
            permissions: row.permissions,
            created_at: row.created_at?,
            last_seen_at: row.last_seen_at?,
            now: row.now,
        })
    }
}

/// A dashboard link and its account. A link that was used is not found.
pub(in crate::store) struct StoredLink {
    pub token_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub external_id: String,
    pub tenant_status: String,
    pub return_url: Option<String>,
    pub expired: bool,
}

impl Row for StoredLink {
    fn hash(&self) -> &[u8] {
        &self.token_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Read<Self>, sqlx::Error> {
        let rows = sqlx::query!(
            r#"SELECT /* lookups.links */
                      pg_postmaster_start_time() AS "server!", l.token_hash AS "token_hash?",
                      l.tenant_id AS "tenant_id?", a.external_id AS "external_id?",
                      t.status AS "tenant_status?", l.return_url AS "return_url?",
                      l.expires_at <= clock_timestamp() AS "expired?"
               FROM (SELECT) AS answer
                    LEFT JOIN (dashboard_links l JOIN accounts a USING (account_id)
                               JOIN tenants t ON t.tenant_id = l.tenant_id
                               LEFT JOIN admin_keys maker ON maker.admin_key_id = l.admin_key_id)
                    ON l.token_hash = ANY($1) AND maker.revoked_at IS NULL"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await?;
        read!(rows, row => Self {
            token_hash: row.token_hash?,
            tenant_id: row.tenant_id?,
            external_id: row.external_id?,
            tenant_status: row.tenant_status?,
            return_url: row.return_url,
            expired: row.expired?,
        })
    }
}
