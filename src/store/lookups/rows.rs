use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::gathered::Row;
use crate::domain::dashboard::IDLE_SECONDS;

/// An API key and its account as they are stored.
pub(in crate::store) struct KeyAndAccount {
    pub key_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub key_id: Uuid,
    pub scopes: Vec<String>,
    pub enabled: bool,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub external_id: String,
    pub status: String,
    /// The database's clock at the time of the read.
    pub now: OffsetDateTime,
}

impl Row for KeyAndAccount {
    fn hash(&self) -> &[u8] {
        &self.key_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            KeyAndAccount,
            r#"SELECT /* lookups.api_keys */
                      k.key_hash, k.tenant_id, k.key_id, k.scopes, k.enabled, k.expires_at,
                      k.revoked_at, a.external_id, a.status, clock_timestamp() AS "now!"
               FROM api_keys k JOIN accounts a USING (account_id)
               WHERE k.key_hash = ANY($1)"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await
    }
}

/// An admin key as it is stored, revoked or not.
pub(in crate::store) struct StoredAdminKey {
    pub key_hash: Vec<u8>,
    pub admin_key_id: Uuid,
    pub tenant_id: Uuid,
    pub permissions: Vec<String>,
    pub revoked: bool,
    /// The database's clock at the time of the read.
    pub now: OffsetDateTime,
}

impl Row for StoredAdminKey {
    fn hash(&self) -> &[u8] {
        &self.key_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            StoredAdminKey,
            r#"SELECT /* lookups.admin_keys */
                      key_hash, admin_key_id, tenant_id, permissions,
                      revoked_at IS NOT NULL AS "revoked!", clock_timestamp() AS "now!"
               FROM admin_keys WHERE key_hash = ANY($1)"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await
    }
}

/// A live dashboard session and its account. A session that has ended is not found.
pub(in crate::store) struct StoredSession {
    pub token_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub external_id: String,
    pub status: String,
    pub return_url: Option<String>,
    pub way: String,
    /// Those of the admin key that made the link.
    pub permissions: Option<Vec<String>>,
    pub created_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
    /// The database's clock at the time of the read.
    pub now: OffsetDateTime,
}

impl Row for StoredSession {
    fn hash(&self) -> &[u8] {
        &self.token_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            StoredSession,
            r#"SELECT /* lookups.sessions */
                      s.token_hash AS "token_hash!", s.tenant_id AS "tenant_id!",
                      external_id AS "external_id!", status AS "status!", return_url,
                      way AS "way!", maker.permissions AS "permissions?",
                      s.created_at AS "created_at!", last_seen_at AS "last_seen_at!",
                      clock_timestamp() AS "now!"
               FROM dashboard_sessions s JOIN accounts USING (account_id)
                    LEFT JOIN admin_keys maker ON maker.admin_key_id = s.admin_key_id
               WHERE s.token_hash = ANY($1) AND maker.revoked_at IS NULL
                 AND expires_at > clock_timestamp()
                 AND last_seen_at > clock_timestamp() - $2::bigint * interval '1 second'"#,
            hashes as &[&[u8]],
            IDLE_SECONDS,
        )
        .fetch_all(connection)
        .await
    }
}

/// The account that a dashboard link leads to. A link that was used or has expired is not found.
pub(in crate::store) struct StoredLink {
    pub token_hash: Vec<u8>,
    pub tenant_id: Uuid,
    pub external_id: String,
}

impl Row for StoredLink {
    fn hash(&self) -> &[u8] {
        &self.token_hash
    }

    async fn select(
        connection: &mut PgConnection,
        hashes: &[&[u8]],
    ) -> Result<Vec<Self>, sqlx::Error> {
        sqlx::query_as!(
            StoredLink,
            r#"SELECT /* lookups.links */
                      l.token_hash AS "token_hash!", l.tenant_id AS "tenant_id!",
                      external_id AS "external_id!"
               FROM dashboard_links l JOIN accounts USING (account_id)
                    LEFT JOIN admin_keys maker ON maker.admin_key_id = l.admin_key_id
               WHERE l.token_hash = ANY($1) AND maker.revoked_at IS NULL
                 AND expires_at > clock_timestamp()"#,
            hashes as &[&[u8]],
        )
        .fetch_all(connection)
        .await
    }
}
