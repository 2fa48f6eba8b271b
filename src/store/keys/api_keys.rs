//! Creates, finds and lists API keys.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::row::{ApiKey, KeyRow, insert, select, select_keys};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        api_key::KeyText,
        audit::{AuditAction, AuditTarget},
        id::KeyId,
        key_settings::KeySettings,
        lifecycle::{KeyStatus, KeyStatusFilter},
        plan::Plan,
        tenant::Tenant,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        AccountHandle, FormClaim, Refusal, Store, StoreError,
        accounts::{account::LockedAccount, plans::plan_of_locked_account},
        clock::now,
        connection::Connection,
    },
};

/// The meaning of settings without an expiry, for a new key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoExpiry {
    /// The key never expires, if the plan allows that.
    Never,
    /// The key gets the default lifetime of the plan.
    PlanDefault,
}

impl AccountHandle<'_> {
    /// Creates a key, unless the account has its maximum number of live keys. `settings` returns the
    /// settings of the key, depending on the plan of the account. The settings must follow the rules
    /// of the plan.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn create_api_key(
        &self,
        text: &KeyText,
        no_expiry: NoExpiry,
        settings: impl FnOnce(&Plan) -> KeySettings + Send,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("create_api_key");
        let (mut tx, locked) = self.begin().await?;
        let created = self.create(&mut tx, &locked, text, no_expiry, settings).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Creates a key as [`Self::create_api_key`] does, with a form of a session of this account.
    /// The transaction that creates the key also spends the form. A spent form is refused before
    /// any other check.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn create_api_key_by_form(
        &self,
        claim: &FormClaim<'_>,
        text: &KeyText,
        settings: &KeySettings,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("create_api_key");
        let (mut tx, locked) = self.begin().await?;
        claim.spend(&mut tx, self.id).await?;
        let never = NoExpiry::Never;
        let created = self.create(&mut tx, &locked, text, never, |_| settings.clone()).await?;
        tx.commit().await?;
        Ok(created)
    }

    /// Creates a key and records its creation. Call this under the account's lock.
    async fn create(
        &self,
        connection: &mut Connection,
        locked: &LockedAccount,
        text: &KeyText,
        no_expiry: NoExpiry,
        settings: impl FnOnce(&Plan) -> KeySettings + Send,
    ) -> Result<ApiKey, StoreError> {
        let at = now(connection).await?;
        let plan = plan_of_locked_account(connection, self.id).await?;
        self.refuse_over_limit(connection, &plan, false, at).await?;
        let mut settings = settings(&plan);
        if settings.expires_at.is_none() && no_expiry == NoExpiry::PlanDefault {
            let restricted = locked.has_networks || settings.allowed_ips.is_some();
            settings.expires_at = plan.default_expiry(&settings.scopes, restricted, at);
        }
        plan.check_key(&settings, locked.has_networks, at).map_err(Refusal::AgainstPlan)?;
        let key = ApiKey {
            id: KeyId::new(at, entropy::for_id()?),
            hint: text.hint().as_str().to_owned(),
            settings,
            created_at: at,
            last_used_at: None,
            revoked_at: None,
            revoked_reason: None,
            rotated_from: None,
            rotated_to: None,
            status: KeyStatus::Live,
        };
        self.add_key(connection, text, &key, at).await?;
        Ok(key)
    }

    /// Adds a new key to the account, and records its creation.
    pub(super) async fn add_key(
        &self,
        connection: &mut Connection,
        text: &KeyText,
        key: &ApiKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        insert(connection, self.tenant.id, self.id, text, key).await?;
        let mut detail = key.settings.audited(&self.tenant.policy.currency);
        detail.insert("hint".to_owned(), json!(key.hint));
        if let Some(old) = key.rotated_from {
            detail.insert("rotated_from".to_owned(), json!(old));
        }
        if !key.settings.enabled {
            detail.insert("enabled".to_owned(), json!(false));
        }
        let target = Some(AuditTarget::ApiKey(key.id));
        self.record(connection, AuditAction::ApiKeyCreate, target, detail.into(), at).await
    }

    /// Refuses the creation of a key if the account already has its maximum number of live keys.
    /// Call this under the account's lock. A rotated key does not count toward the maximum. Rotated
    /// keys in their grace period are counted separately, and their maximum is the same number.
    pub(super) async fn refuse_over_limit(
        &self,
        connection: &mut Connection,
        plan: &Plan,
        in_grace: bool,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let live = sqlx::query_scalar!(
            r#"SELECT /* keys.count_live */ count(*) AS "count!" FROM api_keys
               WHERE account_id = $1 AND (rotated_to IS NOT NULL) = $2
                 AND key_is_live(revoked_at, expires_at, $3)"#,
            self.id.uuid(),
            in_grace,
            OffsetDateTime::from(at),
        )
        .fetch_one(connection)
        .await?;
        let max_keys = plan.settings.max_keys.get();
        if live >= i64::from(max_keys) {
            return Err(Refusal::KeyLimitReached { max_keys }.into());
        }
        Ok(())
    }
}

impl Store {
    /// Reads a key of an account.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn find_api_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.timer("find_api_key");
        let account_id = AccountId::derive(tenant.id, account);
        let row = self
            .read(|mut connection| async move { select(&mut connection, account_id, key_id).await })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_key()
    }

    /// Lists an account's keys, newest first.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
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
        let account_id = tenant.account_id(account);
        let before = before.map_or(Uuid::max(), KeyId::uuid);
        let status = filter.status().map(KeyStatus::as_str);
        let rows = self
            .read(|mut connection| async move {
                select_keys!(
                    "keys.list",
                    "WHERE k.account_id = $1 AND k.key_id < $2
                       AND coalesce($3 = coalesce(key_denial(
                               k.revoked_at, k.expires_at, true, 'active', statement_timestamp()),
                           'live'), true)
                     ORDER BY k.key_id DESC LIMIT $4",
                    account_id,
                    before,
                    status,
                    limit,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(KeyRow::into_key).collect()
    }
}
