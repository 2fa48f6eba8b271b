use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        amount::Amount,
        api_key::KeyText,
        audit::{AuditAction, AuditTarget, Origin},
        id::KeyId,
        lifecycle::{Expiry, KeyStatus, KeyStatusFilter},
        scope::ScopeSet,
        spend_limit::{SpendLimit, SpendPeriod},
        tenant::Tenant,
        text::{Metadata, Name, Reason},
        timestamp::Timestamp,
    },
    entropy,
    store::{
        FormClaim, Refusal, Store, StoreError,
        accounts::account,
        audit::{Act, Subject},
        clock::{now, stored_time},
        scope_sets::stored_scopes,
    },
};

/// An API key as it is stored: all but its hash.
#[derive(Clone, PartialEq, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub hint: String,
    pub name: Name,
    pub scopes: ScopeSet,
    pub metadata: Metadata,
    pub spend_limit: Option<SpendLimit>,
    pub enabled: bool,
    pub created_at: Timestamp,
    /// When it last passed, to the minute and some seconds late; `None`: never.
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoked_reason: Option<Reason>,
    pub rotated_from: Option<KeyId>,
    pub rotated_to: Option<KeyId>,
    /// At the moment of the database's clock when it was read.
    pub status: KeyStatus,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub name: Name,
    pub scopes: ScopeSet,
    pub expiry: Option<Expiry>,
    pub metadata: Metadata,
    pub spend_limit: Option<SpendLimit>,
}

pub(in crate::store) struct KeyRow {
    pub key_id: Uuid,
    pub hint: String,
    pub name: String,
    pub scopes: Vec<String>,
    pub metadata: Value,
    pub spend_limit: Option<i64>,
    pub spend_period: Option<String>,
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

impl KeyRow {
    pub fn into_key(self) -> Result<ApiKey, StoreError> {
        let time = |moment| stored_time("api_keys", moment);
        let revoked_at = self.revoked_at.map(time).transpose()?;
        let expires_at = self.expires_at.map(time).transpose()?;
        Ok(ApiKey {
            id: KeyId::from_uuid(self.key_id),
            hint: self.hint,
            name: Name::from_stored(self.name),
            scopes: stored_scopes(&self.scopes)?,
            metadata: Metadata::from_stored(self.metadata),
            spend_limit: stored_limit(self.spend_limit, self.spend_period.as_deref())?,
            enabled: self.enabled,
            created_at: time(self.created_at)?,
            last_used_at: self.last_used_at.map(time).transpose()?,
            expires_at,
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

impl Store {
    /// Gives an account a key, unless it has as many live ones as it may.
    pub async fn create_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key: &KeyText,
        new: &NewApiKey,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("create_api_key");
        let mut tx = self.begin().await?;
        account::lock(&mut tx, AccountId::derive(tenant.id, account)).await?;
        let created = create(&mut tx, tenant, account, key, new, origin).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// [`Self::create_api_key`] for the account of a session, by a form that can be sent once: it is
    /// spent if, and only if, the key is made. A form that was spent is refused before all else.
    pub async fn create_api_key_by_form(
        &self,
        claim: &FormClaim<'_>,
        key: &KeyText,
        new: &NewApiKey,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("create_api_key");
        let (tenant, account) = (&claim.session.tenant, &claim.session.account);
        let mut tx = self.begin().await?;
        account::lock(&mut tx, AccountId::derive(tenant.id, account)).await?;
        claim.spend(&mut tx).await?;
        let created = create(&mut tx, tenant, account, key, new, origin).await?;
        tx.commit().await?;
        Ok(created)
    }

    pub async fn find_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("find_api_key");
        let account_id = AccountId::derive(tenant.id, account);
        let row = self
            .read(|pool| async move {
                let mut connection = pool.acquire().await?;
                select(&mut connection, account_id, key_id).await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_key()
    }

    /// An account's keys, newest first.
    pub async fn list_api_keys(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        filter: KeyStatusFilter,
        before: Option<KeyId>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_api_keys");
        let account_id = AccountId::derive(tenant.id, account).uuid();
        let before = before.map_or(Uuid::max(), KeyId::uuid);
        let status = filter.status().map(KeyStatus::as_str);
        let rows = self
            .read(|pool| async move {
                sqlx::query_as!(
                    KeyRow,
                    r#"SELECT key_id, hint, name, scopes, metadata, spend_limit, spend_period,
                              enabled, created_at, last_used_at AS "last_used_at?", expires_at, revoked_at,
                              revoked_reason, rotated_from, rotated_to, now() AS "now!"
                       FROM api_keys LEFT JOIN api_key_last_used USING (account_id, key_id)
                       WHERE account_id = $1 AND key_id < $2
                         AND coalesce($3 = coalesce(
                             key_denial(revoked_at, expires_at, true, 'active', now()), 'live'), true)
                       ORDER BY key_id DESC LIMIT $4"#,
                    account_id,
                    before,
                    status,
                    limit,
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        rows.into_iter().map(KeyRow::into_key).collect()
    }
}

/// Makes a key under the account's lock, and records it.
async fn create(
    connection: &mut PgConnection,
    tenant: &Tenant,
    account: &ExternalId,
    key: &KeyText,
    new: &NewApiKey,
    origin: &Origin,
) -> Result<ApiKey, StoreError> {
    let account_id = AccountId::derive(tenant.id, account);
    let at = now(connection).await?;
    refuse_over_limit(connection, tenant, account_id, false, at).await?;
    let id = KeyId::new(at, entropy::for_id()?);
    let row = ApiKey {
        id,
        hint: key.hint().as_str().to_owned(),
        name: new.name.clone(),
        scopes: new.scopes.clone(),
        metadata: new.metadata.clone(),
        spend_limit: new.spend_limit,
        enabled: true,
        created_at: at,
        last_used_at: None,
        expires_at: new.expiry.map(Expiry::timestamp),
        revoked_at: None,
        revoked_reason: None,
        rotated_from: None,
        rotated_to: None,
        status: KeyStatus::Live,
    };
    insert(connection, tenant, account_id, key, &row).await?;
    let detail = json!({
        "name": row.name,
        "hint": row.hint,
        "scopes": row.scopes.to_strings(),
        "expires_at": row.expires_at,
        "spend_limit": shown_limit(tenant, row.spend_limit),
    });
    let subject = Subject::Account(account, Some(AuditTarget::ApiKey(id)));
    let act = Act { action: AuditAction::ApiKeyCreate, subject, detail };
    act.record(connection, tenant, origin, at).await?;
    Ok(row)
}

/// A limit as the audit trail shows it.
pub(in crate::store) fn shown_limit(tenant: &Tenant, limit: Option<SpendLimit>) -> Value {
    limit.map_or(Value::Null, |limit| {
        let amount = tenant.policy.currency.format(limit.amount.minor_units());
        json!({"amount": amount, "period": limit.period})
    })
}

/// Counts under the account's lock. A key that was rotated out does not count toward the cap;
/// those in their grace are counted by themselves, against the same number.
pub(in crate::store) async fn refuse_over_limit(
    connection: &mut PgConnection,
    tenant: &Tenant,
    account_id: AccountId,
    in_grace: bool,
    at: Timestamp,
) -> Result<(), StoreError> {
    let live = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM api_keys
           WHERE account_id = $1 AND (rotated_to IS NOT NULL) = $2
             AND key_is_live(revoked_at, expires_at, $3)"#,
        account_id.uuid(),
        in_grace,
        OffsetDateTime::from(at),
    )
    .fetch_one(connection)
    .await?;
    let max_keys = tenant.policy.max_keys.get();
    if live >= i64::from(max_keys) {
        return Err(Refusal::KeyLimitReached { max_keys }.into());
    }
    Ok(())
}

pub(in crate::store) async fn select(
    connection: &mut PgConnection,
    account_id: AccountId,
    key_id: KeyId,
) -> Result<Option<KeyRow>, sqlx::Error> {
    sqlx::query_as!(
        KeyRow,
        r#"SELECT key_id, hint, name, scopes, metadata, spend_limit, spend_period, enabled,
                  created_at, last_used_at AS "last_used_at?", expires_at, revoked_at, revoked_reason,
                  rotated_from, rotated_to, clock_timestamp() AS "now!"
           FROM api_keys LEFT JOIN api_key_last_used USING (account_id, key_id)
           WHERE account_id = $1 AND key_id = $2"#,
        account_id.uuid(),
        key_id.uuid(),
    )
    .fetch_optional(connection)
    .await
}

pub(in crate::store) async fn insert(
    connection: &mut PgConnection,
    tenant: &Tenant,
    account_id: AccountId,
    key: &KeyText,
    row: &ApiKey,
) -> Result<(), StoreError> {
    let hash = key.hash();
    sqlx::query!(
        "INSERT INTO api_keys (account_id, key_id, tenant_id, key_hash, hint, name, scopes,
                               metadata, enabled, created_at, expires_at, rotated_from,
                               spends_as, spend_limit, spend_period)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9, $10, $11, $12,
                 (SELECT coalesce(spends_as, key_id) FROM api_keys
                  WHERE account_id = $1 AND key_id = $12), $13, $14)",
        account_id.uuid(),
        row.id.uuid(),
        tenant.id.uuid(),
        hash.as_bytes(),
        row.hint,
        row.name.as_str(),
        &row.scopes.to_strings(),
        row.metadata.to_string(),
        row.enabled,
        OffsetDateTime::from(row.created_at),
        row.expires_at.map(OffsetDateTime::from),
        row.rotated_from.map(KeyId::uuid),
        row.spend_limit.map(|limit| limit.amount.minor_units()),
        row.spend_limit.map(|limit| limit.period.as_str()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
