//! The statements that name the columns of `api_keys`, and the type of a row.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::AccountId,
        amount::Amount,
        api_key::KeyText,
        id::{KeyId, TenantId},
        key_settings::KeySettings,
        lifecycle::KeyStatus,
        spend_limit::{SpendLimit, SpendPeriod},
        text::{Metadata, Name, Reason},
        timestamp::Timestamp,
    },
    store::{
        StoreError,
        clock::stored_time,
        connection::Connection,
        scope_sets::stored_scopes,
        stored_allowed_ips::{allowed_ips_to_store, stored_allowed_ips},
        stored_limits::{
            limits_to_store, owner_limits_to_store, stored_limits, stored_owner_limits,
        },
    },
};

/// A stored API key, without its hash.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub hint: String,
    pub settings: KeySettings,
    pub created_at: Timestamp,
    /// The time when the key was last accepted, to the minute. It is written a few seconds late.
    /// `None` means never.
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoked_reason: Option<Reason>,
    pub rotated_from: Option<KeyId>,
    pub rotated_to: Option<KeyId>,
    /// The status by the database's clock when the key was read.
    pub status: KeyStatus,
}

pub(super) struct KeyRow {
    pub key_id: Uuid,
    pub hint: String,
    pub name: String,
    pub scopes: Vec<String>,
    pub metadata: serde_json::Value,
    pub spend_limit: Option<i64>,
    pub spend_period: Option<String>,
    pub rate_limits: Option<serde_json::Value>,
    pub owner_rate_limits: Option<serde_json::Value>,
    pub allowed_ips: Option<Vec<String>>,
    pub enabled: bool,
    pub created_at: OffsetDateTime,
    pub last_used_at: Option<OffsetDateTime>,
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub revoked_reason: Option<String>,
    pub rotated_from: Option<Uuid>,
    pub rotated_to: Option<Uuid>,
    pub now: OffsetDateTime,
}

/// Defines a query that returns [`KeyRow`]s. `$rest` follows the table `api_keys`, whose alias is
/// `k`. The status of a key is its status when this statement began. A statement that runs after
/// the wait for a lock therefore returns the status after the wait.
macro_rules! select_keys {
    ($name:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            KeyRow,
            "SELECT /* " + $name
            + r#" */
                        k.key_id, k.hint, k.name, k.scopes, k.metadata, k.spend_limit, k.spend_period,
                        k.rate_limits, k.owner_rate_limits, k.allowed_ips::text[] AS allowed_ips,
                        k.enabled, k.created_at,
                        u.last_used_at AS "last_used_at?", k.expires_at, k.revoked_at, k.revoked_reason,
                        k.rotated_from, k.rotated_to,
                        statement_timestamp() AS "now!"
                 FROM api_keys k LEFT JOIN api_key_last_used u USING (account_id, key_id) "#
            + $rest,
            $($argument),*
        )
    };
}
pub(super) use select_keys;

impl KeyRow {
    pub fn into_key(self) -> Result<ApiKey, StoreError> {
        let time = |moment| stored_time("api_keys", moment);
        let revoked_at = self.revoked_at.map(time).transpose()?;
        let expires_at = self.expires_at.map(time).transpose()?;
        Ok(ApiKey {
            id: KeyId::from_uuid(self.key_id),
            hint: self.hint,
            settings: KeySettings {
                name: Name::from_stored(self.name),
                scopes: stored_scopes(&self.scopes)?,
                expires_at,
                enabled: self.enabled,
                spend_limit: stored_limit(self.spend_limit, self.spend_period.as_deref())?,
                rate_limits: stored_limits("api_keys.rate_limits", self.rate_limits.as_ref())?,
                owner_limits: stored_owner_limits(self.owner_rate_limits.as_ref())?,
                allowed_ips: stored_allowed_ips(
                    "api_keys.allowed_ips",
                    self.allowed_ips.as_deref(),
                )?,
                metadata: Metadata::from_stored(self.metadata),
            },
            created_at: time(self.created_at)?,
            last_used_at: self.last_used_at.map(time).transpose()?,
            revoked_at,
            revoked_reason: self.revoked_reason.map(Reason::from_stored),
            rotated_from: self.rotated_from.map(KeyId::from_uuid),
            rotated_to: self.rotated_to.map(KeyId::from_uuid),
            status: KeyStatus::at(time(self.now)?, revoked_at, expires_at),
        })
    }
}

pub(in crate::store) fn stored_limit(
    amount: Option<i64>,
    period: Option<&str>,
) -> Result<Option<SpendLimit>, StoreError> {
    let (Some(amount), Some(period)) = (amount, period) else { return Ok(None) };
    let corrupt = |error: &dyn std::fmt::Display| StoreError::corrupt("spend_limit", error);
    let amount = Amount::from_minor_units(amount).ok_or_else(|| corrupt(&"not more than zero"))?;
    let period = period.parse::<SpendPeriod>().map_err(|error| corrupt(&error))?;
    Ok(Some(SpendLimit { amount, period }))
}

/// Reads one key of an account.
pub(super) async fn select(
    connection: &mut Connection,
    account_id: AccountId,
    key_id: KeyId,
) -> Result<Option<KeyRow>, sqlx::Error> {
    select_keys!(
        "keys.select",
        "WHERE k.account_id = $1 AND k.key_id = $2",
        account_id.uuid(),
        key_id.uuid(),
    )
    .fetch_optional(connection)
    .await
}

/// Adds a key to an account. A key shares the spend counter of the key that it replaces.
pub(super) async fn insert(
    connection: &mut Connection,
    tenant_id: TenantId,
    account_id: AccountId,
    text: &KeyText,
    key: &ApiKey,
) -> Result<(), StoreError> {
    let (hash, settings) = (text.hash(), &key.settings);
    let networks = allowed_ips_to_store(settings.allowed_ips.as_ref());
    sqlx::query!(
        "INSERT /* keys.insert */
                INTO api_keys (account_id, key_id, tenant_id, key_hash, hint, name, scopes, metadata,
                               enabled, created_at, expires_at, rotated_from, spends_as,
                               spend_limit, spend_period, rate_limits, owner_rate_limits,
                               allowed_ips)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8::text::json, $9, $10, $11, $12,
                coalesce(old.spends_as, old.key_id), $13, $14, $15::text::jsonb, $16::text::jsonb,
                $17::text[]::cidr[]
         FROM (VALUES ($12::uuid)) AS new (rotated_from)
         LEFT JOIN api_keys old ON old.account_id = $1 AND old.key_id = new.rotated_from",
        account_id.uuid(),
        key.id.uuid(),
        tenant_id.uuid(),
        hash.as_bytes(),
        key.hint,
        settings.name.as_str(),
        &settings.scopes.to_strings(),
        settings.metadata.to_string(),
        settings.enabled,
        OffsetDateTime::from(key.created_at),
        settings.expires_at.map(OffsetDateTime::from),
        key.rotated_from.map(KeyId::uuid),
        settings.spend_limit.map(|limit| limit.amount.minor_units()),
        settings.spend_limit.map(|limit| limit.period.as_str()),
        limits_to_store(settings.rate_limits.as_ref()),
        owner_limits_to_store(&settings.owner_limits),
        networks.as_deref(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes the settings of an existing key.
pub(super) async fn update(
    connection: &mut Connection,
    account_id: AccountId,
    key_id: KeyId,
    settings: &KeySettings,
) -> Result<(), StoreError> {
    let networks = allowed_ips_to_store(settings.allowed_ips.as_ref());
    sqlx::query!(
        "UPDATE /* keys.update */
                api_keys SET name = $3, scopes = $4, expires_at = $5, enabled = $6,
                             metadata = $7::text::json, spend_limit = $8, spend_period = $9,
                             rate_limits = $10::text::jsonb, owner_rate_limits = $11::text::jsonb,
                             allowed_ips = $12::text[]::cidr[]
         WHERE account_id = $1 AND key_id = $2",
        account_id.uuid(),
        key_id.uuid(),
        settings.name.as_str(),
        &settings.scopes.to_strings(),
        settings.expires_at.map(OffsetDateTime::from),
        settings.enabled,
        settings.metadata.to_string(),
        settings.spend_limit.map(|limit| limit.amount.minor_units()),
        settings.spend_limit.map(|limit| limit.period.as_str()),
        limits_to_store(settings.rate_limits.as_ref()),
        owner_limits_to_store(&settings.owner_limits),
        networks.as_deref(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the other live keys of a chain of rotations the rate limits of this key. Returns the keys
/// whose limits have changed.
pub(super) async fn update_limits_of_chain(
    connection: &mut Connection,
    account_id: AccountId,
    key_id: KeyId,
    settings: &KeySettings,
) -> Result<Vec<KeyId>, StoreError> {
    let changed = sqlx::query_scalar!(
        "UPDATE /* keys.update_limits_of_chain */ api_keys AS other
         SET rate_limits = $3::text::jsonb, owner_rate_limits = $4::text::jsonb
         FROM api_keys k
         WHERE k.account_id = $1 AND k.key_id = $2 AND other.account_id = $1
           AND other.key_id <> k.key_id
           AND coalesce(other.spends_as, other.key_id) = coalesce(k.spends_as, k.key_id)
           AND key_is_live(other.revoked_at, other.expires_at, clock_timestamp())
           AND (other.rate_limits, other.owner_rate_limits)
               IS DISTINCT FROM ($3::text::jsonb, $4::text::jsonb)
         RETURNING other.key_id",
        account_id.uuid(),
        key_id.uuid(),
        limits_to_store(settings.rate_limits.as_ref()),
        owner_limits_to_store(&settings.owner_limits),
    )
    .fetch_all(connection)
    .await?;
    Ok(changed.into_iter().map(KeyId::from_uuid).collect())
}
