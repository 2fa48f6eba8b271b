//! Changes to existing keys: settings, revocation and rotation.

use serde_json::{Map, json};
use time::OffsetDateTime;

use super::row::{ApiKey, select, update, update_limits_of_chain};
use crate::{
    domain::{
        api_key::KeyText,
        audit::{AuditAction, AuditTarget},
        hold::VoidReason,
        id::KeyId,
        key_settings::{KeyChange, KeySettings},
        lifecycle::{KeyStatus, end_of_grace},
        text::Reason,
    },
    entropy,
    store::{
        AccountHandle, AcknowledgedRevoke, FormClaim, Refusal, StoreError,
        accounts::plans::plan_of_locked_account, changes::ChangeKind, clock::now,
        connection::Connection, hold_voids::void_holds_of_key, transaction::Tx, turns::hurry,
    },
};

/// The members of an audit event that concern rate limits.
const RATE_LIMIT_MEMBERS: [&str; 2] = ["rate_limits", "owner_rate_limits"];

/// The members of an audit event that concern rules of the plan.
const PLANNED_MEMBERS: [&str; 3] = ["scopes", "expires_at", "allowed_ips"];

/// The reason for the revocation that a rotation without a grace period causes.
const ROTATED: &str = "rotated";

/// The reason for a repeated revocation, for the audit trail.
const LOST: &str = "a failover of the database lost the revocation";

impl AccountHandle<'_> {
    /// Changes a live key. Its rate limits also change for the other live keys of its chain of
    /// rotations. If the key already has the settings, the call records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %key_id))]
    pub async fn change_api_key(
        &self,
        key_id: KeyId,
        change: &KeyChange,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("change_api_key");
        if change.enabled == Some(false) {
            hurry();
        }
        let (mut tx, locked) = self.begin().await?;
        let old = self.live_key(&mut tx, key_id).await?;
        let settings = change.applied_to(&old.settings);
        if old.rotated_to.is_some() && outlives(&settings, &old.settings) {
            return Err(Refusal::KeyAlreadyRotated.into());
        }
        let detail = old.settings.differences(&settings, &self.tenant.policy.currency);
        if !detail.is_empty() {
            let at = now(&mut tx).await?;
            if PLANNED_MEMBERS.iter().any(|member| detail.contains_key(*member)) {
                let plan = plan_of_locked_account(&mut tx, self.id).await?;
                plan.check_key(&settings, locked.has_networks, at).map_err(Refusal::AgainstPlan)?;
            }
            update(&mut tx, self.id, key_id, &settings).await?;
            let mut changed = vec![(key_id, detail.clone())];
            if change.touches_rate_limits() {
                // The keys of a chain share windows, so they need windows of the same length.
                let mut limits = detail;
                limits.retain(|name, _| RATE_LIMIT_MEMBERS.contains(&name.as_str()));
                let others = update_limits_of_chain(&mut tx, self.id, key_id, &settings).await?;
                changed.extend(others.into_iter().map(|other| (other, limits.clone())));
            }
            for (changed, detail) in changed {
                let target = Some(AuditTarget::ApiKey(changed));
                self.record(&mut tx, AuditAction::ApiKeyChange, target, detail.into(), at).await?;
            }
        }
        // This announces the change even if no setting has changed, because an earlier call may
        // have failed after its commit, and the client then repeats it.
        let kind = if change.touches_verdict() {
            Some(ChangeKind::Keys)
        } else {
            change.touches_rate_limits().then_some(ChangeKind::Limits)
        };
        let announced = match kind {
            Some(kind) => {
                let (tenant, account) = (self.tenant.id, self.id);
                let with_chain = change.touches_rate_limits();
                let announced =
                    self.store.announce_key(&mut tx, tenant, account, key_id, kind, with_chain);
                Some(announced.await?)
            }
            None => None,
        };
        let committed = tx.commit_and_keep().await?;
        if let Some(announced) = announced {
            announced.settle(self.store, committed).await;
        }
        Ok(ApiKey { settings, ..old })
    }

    /// Revokes a key and voids its open holds. A key that is no longer live stays unchanged. After
    /// the first call, the key has no open holds, so a repeated call has no effect.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %key_id))]
    pub async fn revoke_api_key(
        &self,
        key_id: KeyId,
        reason: Option<&Reason>,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("revoke_api_key");
        self.revoke(key_id, reason, VoidReason::KeyRevoked, false).await
    }

    /// Revokes a key as [`Self::revoke_api_key`] does. The audit event says that the owner has
    /// reported the key as compromised.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %key_id))]
    pub async fn revoke_compromised_api_key(
        &self,
        key_id: KeyId,
        reason: &Reason,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("revoke_api_key");
        self.revoke(key_id, Some(reason), VoidReason::KeyCompromised, false).await
    }

    /// Takes locks in the same order as batches: the account, then the key, then its holds.
    /// `repeated` means that the database lost this revocation, and the node repeats it.
    pub(in crate::store) async fn revoke(
        &self,
        key_id: KeyId,
        reason: Option<&Reason>,
        void_reason: VoidReason,
        repeated: bool,
    ) -> Result<ApiKey, StoreError> {
        hurry();
        let (mut tx, _) = self.begin().await?;
        let mut key =
            select(&mut tx, self.id, key_id).await?.ok_or(Refusal::NotFound)?.into_key()?;
        let at = now(&mut tx).await?;
        let was_live = key.status == KeyStatus::Live;
        if was_live {
            key.revoked_at = Some(at);
            key.revoked_reason = reason.cloned();
            key.status = KeyStatus::Revoked;
            sqlx::query!(
                "UPDATE /* keys.revoke */ api_keys SET revoked_at = $3, revoked_reason = $4
                 WHERE account_id = $1 AND key_id = $2",
                self.id.uuid(),
                key_id.uuid(),
                OffsetDateTime::from(at),
                reason.map(Reason::as_str),
            )
            .execute(&mut *tx)
            .await?;
        }
        // The holds are voided even if the key is no longer live, because a key that expired or was
        // rotated can still have open holds.
        let voided = void_holds_of_key(&mut tx, self.id, key_id, void_reason).await?;
        if was_live || !voided.ids.is_empty() {
            let mut detail = Map::new();
            detail.insert("reason".to_owned(), json!(reason.map(Reason::as_str)));
            if repeated {
                detail.insert("repeated_because".to_owned(), json!(LOST));
            }
            if !voided.ids.is_empty() {
                let currency = &self.tenant.policy.currency;
                detail.insert("voided_holds".to_owned(), json!(voided.ids));
                detail.insert("voided_amount".to_owned(), json!(currency.format(voided.amount)));
                detail.insert("currency".to_owned(), json!(currency.code()));
            }
            let target = Some(AuditTarget::ApiKey(key_id));
            self.record(&mut tx, AuditAction::ApiKeyRevoke, target, detail.into(), at).await?;
        }
        // A key that expired without a revocation has nothing to acknowledge.
        let revoke = key.revoked_at.map(|_| self.acknowledged_revoke(key_id, reason, void_reason));
        // This announces the change even if the key was not live, because an earlier call may have
        // failed after its commit, and the client then repeats it.
        self.commit_announced(tx, key_id, revoke).await?;
        Ok(key)
    }

    /// Replaces a live key with a new key, whose plaintext is `text`. The new key has the settings
    /// of the old key, so it does not expire later. The old key is accepted until the grace period
    /// ends. Without a grace period, it is revoked immediately.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %key_id))]
    pub async fn rotate_api_key(
        &self,
        key_id: KeyId,
        text: &KeyText,
        grace_seconds: i64,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("rotate_api_key");
        let (mut tx, _) = self.begin().await?;
        let new = self.rotate(&mut tx, key_id, text, grace_seconds).await?;
        let revoke = (grace_seconds == 0).then(|| self.revoke_by_rotation(key_id));
        self.commit_announced(tx, key_id, revoke).await?;
        Ok(new)
    }

    /// Rotates a key as [`Self::rotate_api_key`] does, with a form of a session of this account.
    /// The transaction that creates the new key also spends the form. A spent form is refused
    /// before any other check.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %key_id))]
    pub async fn rotate_api_key_by_form(
        &self,
        claim: &FormClaim<'_>,
        key_id: KeyId,
        text: &KeyText,
        grace_seconds: i64,
    ) -> Result<ApiKey, StoreError> {
        let _timer = self.store.timer("rotate_api_key");
        let (mut tx, _) = self.begin().await?;
        claim.spend(&mut tx, self.id).await?;
        let new = self.rotate(&mut tx, key_id, text, grace_seconds).await?;
        let revoke = (grace_seconds == 0).then(|| self.revoke_by_rotation(key_id));
        self.commit_announced(tx, key_id, revoke).await?;
        Ok(new)
    }

    /// Commits, and returns when every node has applied the change to the key. If the change
    /// revoked the key, the node keeps `revoke` for the check after a failover.
    async fn commit_announced(
        &self,
        mut tx: Tx,
        key_id: KeyId,
        revoke: Option<AcknowledgedRevoke>,
    ) -> Result<(), StoreError> {
        let (tenant, kind) = (self.tenant.id, ChangeKind::Keys);
        let change = self.store.announce_key(&mut tx, tenant, self.id, key_id, kind, false).await?;
        let committed = tx.commit_and_keep().await?;
        // The node keeps the revocation before it waits, because a failover during the wait can
        // lose it, and the call returns nevertheless.
        if let Some(revoke) = revoke {
            self.store.acknowledged.add_revoke(revoke);
        }
        change.settle(self.store, committed).await;
        Ok(())
    }

    fn acknowledged_revoke(
        &self,
        key_id: KeyId,
        reason: Option<&Reason>,
        void_reason: VoidReason,
    ) -> AcknowledgedRevoke {
        AcknowledgedRevoke {
            tenant_id: self.tenant.id,
            account: self.account.clone(),
            key_id,
            reason: reason.cloned(),
            void_reason,
            origin: *self.origin,
        }
    }

    /// Describes the revocation of the old key by a rotation without a grace period.
    fn revoke_by_rotation(&self, key_id: KeyId) -> AcknowledgedRevoke {
        let reason = Reason::from_stored(ROTATED.to_owned());
        self.acknowledged_revoke(key_id, Some(&reason), VoidReason::KeyRevoked)
    }

    /// Replaces a key and records the rotation. Call this under the account's lock.
    async fn rotate(
        &self,
        connection: &mut Connection,
        key_id: KeyId,
        text: &KeyText,
        grace_seconds: i64,
    ) -> Result<ApiKey, StoreError> {
        let old = self.live_key(connection, key_id).await?;
        if old.rotated_to.is_some() {
            return Err(Refusal::KeyAlreadyRotated.into());
        }
        let at = now(connection).await?;
        if grace_seconds > 0 {
            let plan = plan_of_locked_account(connection, self.id).await?;
            self.refuse_over_limit(connection, &plan, true, at).await?;
        }
        let new = ApiKey {
            id: KeyId::new(at, entropy::for_id()?),
            hint: text.hint().as_str().to_owned(),
            created_at: at,
            rotated_from: Some(key_id),
            last_used_at: None,
            ..old.clone()
        };
        let old_end = old.settings.expires_at;
        let end = end_of_grace(at, grace_seconds, old_end);
        let at_once = grace_seconds == 0;
        // The event of the new key gets a later time, so that the audit trail lists it after the
        // rotation. Each event contains the id of the other key.
        let after = now(connection).await?;
        self.add_key(connection, text, &new, after).await?;
        sqlx::query!(
            "UPDATE /* keys.rotate */
                    api_keys SET rotated_to = $3, revoked_at = $4, revoked_reason = $5, expires_at = $6
             WHERE account_id = $1 AND key_id = $2",
            self.id.uuid(),
            key_id.uuid(),
            new.id.uuid(),
            at_once.then_some(OffsetDateTime::from(at)),
            at_once.then_some(ROTATED),
            (if at_once { old_end } else { Some(end) }).map(OffsetDateTime::from),
        )
        .execute(&mut *connection)
        .await?;
        let detail = json!({
            "rotated_to": new.id,
            "hint": new.hint,
            "grace_seconds": grace_seconds,
            "old_key_dies_at": end,
        });
        let target = Some(AuditTarget::ApiKey(key_id));
        self.record(connection, AuditAction::ApiKeyRotate, target, detail, at).await?;
        Ok(new)
    }

    async fn live_key(
        &self,
        connection: &mut Connection,
        key_id: KeyId,
    ) -> Result<ApiKey, StoreError> {
        let key =
            select(connection, self.id, key_id).await?.ok_or(Refusal::NotFound)?.into_key()?;
        match key.status {
            KeyStatus::Live => Ok(key),
            KeyStatus::Revoked | KeyStatus::Expired => Err(Refusal::KeyNotLive.into()),
        }
    }
}

/// Whether a key would expire later with `new` than with `old`.
fn outlives(new: &KeySettings, old: &KeySettings) -> bool {
    match (old.expires_at, new.expires_at) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(old), Some(new)) => new > old,
    }
}
