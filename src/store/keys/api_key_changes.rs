use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Postgres, Transaction};
use time::OffsetDateTime;

use super::api_keys::{insert, refuse_over_limit, select, shown_limit};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        api_key::KeyText,
        audit::{AuditAction, AuditTarget, Origin},
        id::KeyId,
        lifecycle::{Expiry, KeyStatus, end_of_grace},
        scope::ScopeSet,
        spend_limit::SpendLimit,
        tenant::Tenant,
        text::{Metadata, Name, Reason},
    },
    entropy,
    store::{
        ApiKey, FormClaim, Refusal, Store, StoreError,
        accounts::account,
        audit::{Act, Subject},
        clock::now,
    },
};

/// What of a key is to change; `None` keeps.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    pub name: Option<Name>,
    pub scopes: Option<ScopeSet>,
    /// `Some(None)`: never to expire.
    pub expiry: Option<Option<Expiry>>,
    pub enabled: Option<bool>,
    pub metadata: Option<Metadata>,
    /// `Some(None)`: no limit.
    pub spend_limit: Option<Option<SpendLimit>>,
}

impl KeyChange {
    /// Whether it is about what the gate goes by.
    fn touches_verdict(&self) -> bool {
        self.scopes.is_some() || self.expiry.is_some() || self.enabled.is_some()
    }
}

impl Store {
    /// Changes a live key. Nothing is recorded when it is so already.
    pub async fn change_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
        change: &KeyChange,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("change_api_key");
        let account_id = AccountId::derive(tenant.id, account);
        let mut tx = self.begin().await?;
        account::lock(&mut tx, account_id).await?;
        let old = live_key(&mut tx, account_id, key_id).await?;
        let new = apply(change, &old)?;
        let detail = differences(tenant, &old, &new);
        if !detail.is_empty() {
            let at = now(&mut tx).await?;
            sqlx::query!(
                "UPDATE api_keys SET name = $3, scopes = $4, expires_at = $5, enabled = $6,
                                     metadata = $7::text::json, spend_limit = $8,
                                     spend_period = $9
                 WHERE account_id = $1 AND key_id = $2",
                account_id.uuid(),
                key_id.uuid(),
                new.name.as_str(),
                &new.scopes.to_strings(),
                new.expires_at.map(OffsetDateTime::from),
                new.enabled,
                new.metadata.to_string(),
                new.spend_limit.map(|limit| limit.amount.minor_units()),
                new.spend_limit.map(|limit| limit.period.as_str()),
            )
            .execute(&mut *tx)
            .await?;
            let subject = Subject::Account(account, Some(AuditTarget::ApiKey(key_id)));
            let act =
                Act { action: AuditAction::ApiKeyChange, subject, detail: Value::Object(detail) };
            act.record(&mut tx, tenant, origin, at).await?;
        }
        // Also when it was so already: who says it again may not have seen the first one return.
        let announced = if change.touches_verdict() {
            Some(self.announce_key(&mut tx, account_id, key_id).await?)
        } else {
            None
        };
        tx.commit().await?;
        if let Some(announced) = announced {
            announced.settle(self).await;
        }
        Ok(new)
    }

    /// Revokes a key for ever. A dead key stays as it is: repeating it is harmless.
    pub async fn revoke_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
        reason: Option<&Reason>,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("revoke_api_key");
        let account_id = AccountId::derive(tenant.id, account);
        let mut tx = self.begin().await?;
        account::lock(&mut tx, account_id).await?;
        let mut key =
            select(&mut tx, account_id, key_id).await?.ok_or(Refusal::NotFound)?.into_key()?;
        if key.status == KeyStatus::Live {
            let at = now(&mut tx).await?;
            key.revoked_at = Some(at);
            key.revoked_reason = reason.cloned();
            key.status = KeyStatus::Revoked;
            sqlx::query!(
                "UPDATE api_keys SET revoked_at = $3, revoked_reason = $4
                 WHERE account_id = $1 AND key_id = $2",
                account_id.uuid(),
                key_id.uuid(),
                OffsetDateTime::from(at),
                key.revoked_reason.as_deref(),
            )
            .execute(&mut *tx)
            .await?;
            let subject = Subject::Account(account, Some(AuditTarget::ApiKey(key_id)));
            let detail = json!({"reason": key.revoked_reason});
            let act = Act { action: AuditAction::ApiKeyRevoke, subject, detail };
            act.record(&mut tx, tenant, origin, at).await?;
        }
        // Also of a dead key: who says it again may not have seen the first one return.
        let change = self.announce_key(&mut tx, account_id, key_id).await?;
        tx.commit().await?;
        change.settle(self).await;
        Ok(key)
    }

    /// Replaces a live key by `key`, with the same settings and never a later expiry. The old one
    /// passes until the grace ends; with no grace it is revoked at once.
    pub async fn rotate_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
        key: &KeyText,
        grace_seconds: i64,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("rotate_api_key");
        let account_id = AccountId::derive(tenant.id, account);
        let mut tx = self.begin().await?;
        account::lock(&mut tx, account_id).await?;
        let new = rotate(&mut tx, tenant, account, key_id, key, grace_seconds, origin).await?;
        self.end_rotation(tx, account_id, key_id).await?;
        Ok(new)
    }

    /// [`Self::rotate_api_key`] for the account of a session, by a form that can be sent once: it is
    /// spent if, and only if, the new key is made. A form that was spent is refused before all else.
    pub async fn rotate_api_key_by_form(
        &self,
        claim: &FormClaim<'_>,
        key_id: KeyId,
        key: &KeyText,
        grace_seconds: i64,
        origin: &Origin,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("rotate_api_key");
        let (tenant, account) = (&claim.session.tenant, &claim.session.account);
        let account_id = AccountId::derive(tenant.id, account);
        let mut tx = self.begin().await?;
        account::lock(&mut tx, account_id).await?;
        claim.spend(&mut tx).await?;
        let new = rotate(&mut tx, tenant, account, key_id, key, grace_seconds, origin).await?;
        self.end_rotation(tx, account_id, key_id).await?;
        Ok(new)
    }

    /// Commits, and returns once every node goes by what became of the old key.
    async fn end_rotation(
        &self,
        mut tx: Transaction<'static, Postgres>,
        account_id: AccountId,
        key_id: KeyId,
    ) -> Result<(), StoreError> {
        let change = self.announce_key(&mut tx, account_id, key_id).await?;
        tx.commit().await?;
        change.settle(self).await;
        Ok(())
    }
}

/// Replaces a key under the account's lock, and records it.
async fn rotate(
    connection: &mut PgConnection,
    tenant: &Tenant,
    account: &ExternalId,
    key_id: KeyId,
    key: &KeyText,
    grace_seconds: i64,
    origin: &Origin,
) -> Result<ApiKey, StoreError> {
    let account_id = AccountId::derive(tenant.id, account);
    let old = live_key(connection, account_id, key_id).await?;
    if old.rotated_to.is_some() {
        return Err(Refusal::KeyAlreadyRotated.into());
    }
    let at = now(connection).await?;
    if grace_seconds > 0 {
        refuse_over_limit(connection, tenant, account_id, true, at).await?;
    }
    let new = ApiKey {
        id: KeyId::new(at, entropy::for_id()?),
        hint: key.hint().as_str().to_owned(),
        created_at: at,
        rotated_from: Some(key_id),
        last_used_at: None,
        ..old.clone()
    };
    insert(connection, tenant, account_id, key, &new).await?;
    let end = end_of_grace(at, grace_seconds, old.expires_at);
    let at_once = grace_seconds == 0;
    sqlx::query!(
        "UPDATE api_keys SET rotated_to = $3, revoked_at = $4, revoked_reason = $5,
                             expires_at = $6
         WHERE account_id = $1 AND key_id = $2",
        account_id.uuid(),
        key_id.uuid(),
        new.id.uuid(),
        at_once.then_some(OffsetDateTime::from(at)),
        at_once.then_some("rotated"),
        (if at_once { old.expires_at } else { Some(end) }).map(OffsetDateTime::from),
    )
    .execute(&mut *connection)
    .await?;
    let subject = Subject::Account(account, Some(AuditTarget::ApiKey(key_id)));
    let detail = json!({
        "rotated_to": new.id,
        "hint": new.hint,
        "grace_seconds": grace_seconds,
        "old_key_dies_at": end,
    });
    let act = Act { action: AuditAction::ApiKeyRotate, subject, detail };
    act.record(connection, tenant, origin, at).await?;
    // The new key's own line: whoever looks for what was done to it finds where it came from.
    let detail = json!({
        "name": new.name,
        "hint": new.hint,
        "scopes": new.scopes.to_strings(),
        "expires_at": new.expires_at,
        "spend_limit": shown_limit(tenant, new.spend_limit),
        "rotated_from": key_id,
    });
    let subject = Subject::Account(account, Some(AuditTarget::ApiKey(new.id)));
    let act = Act { action: AuditAction::ApiKeyCreate, subject, detail };
    let at = now(connection).await?;
    act.record(connection, tenant, origin, at).await?;
    Ok(new)
}

async fn live_key(
    connection: &mut PgConnection,
    account_id: AccountId,
    key_id: KeyId,
) -> Result<ApiKey, StoreError> {
    let key = select(connection, account_id, key_id).await?.ok_or(Refusal::NotFound)?.into_key()?;
    match key.status {
        KeyStatus::Live => Ok(key),
        KeyStatus::Revoked | KeyStatus::Expired => Err(Refusal::KeyNotLive.into()),
    }
}

fn apply(change: &KeyChange, old: &ApiKey) -> Result<ApiKey, StoreError> {
    let mut new = old.clone();
    if let Some(name) = &change.name {
        new.name.clone_from(name);
    }
    if let Some(scopes) = &change.scopes {
        new.scopes = scopes.clone();
    }
    if let Some(expiry) = change.expiry {
        new.expires_at = expiry.map(Expiry::timestamp);
        let later = match (old.expires_at, new.expires_at) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(old), Some(new)) => new > old,
        };
        if old.rotated_to.is_some() && later {
            return Err(Refusal::KeyAlreadyRotated.into());
        }
    }
    if let Some(enabled) = change.enabled {
        new.enabled = enabled;
    }
    if let Some(metadata) = &change.metadata {
        new.metadata = metadata.clone();
    }
    if let Some(limit) = change.spend_limit {
        new.spend_limit = limit;
    }
    Ok(new)
}

/// What differs, by field, for the audit trail. The tenant's own metadata is named, not repeated.
fn differences(tenant: &Tenant, old: &ApiKey, new: &ApiKey) -> Map<String, Value> {
    let mut differences = Map::new();
    let mut compare = |field: &str, from: Value, to: Value| {
        if from != to {
            differences.insert(field.to_owned(), json!({"from": from, "to": to}));
        }
    };
    compare("name", json!(old.name), json!(new.name));
    compare("scopes", json!(old.scopes.to_strings()), json!(new.scopes.to_strings()));
    compare("expires_at", json!(old.expires_at), json!(new.expires_at));
    compare("enabled", json!(old.enabled), json!(new.enabled));
    let limit = |key: &ApiKey| shown_limit(tenant, key.spend_limit);
    compare("spend_limit", limit(old), limit(new));
    if old.metadata != new.metadata {
        differences.insert("metadata".to_owned(), json!("changed"));
    }
    differences
}
