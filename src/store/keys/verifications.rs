use uuid::Uuid;

use super::row::select;
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        address_set::AddressSet,
        api_key::KeyHash,
        id::{KeyId, TenantId},
        scope::ScopeSet,
        server::ServerId,
        tenant::Tenant,
        timestamp::Timestamp,
        verification::{Denial, KeyState},
    },
    store::{
        Account, ApiKey, LimitGenerations, LimitSet, Refusal, Store, StoreError,
        accounts::{
            account::{stored_plan, stored_status},
            tenant_status::stored_tenant_status,
        },
        clock::stored_time,
        external_ids::stored_account,
        stored_allowed_ips::stored_allowed_ips,
        stored_limits::stored_limits,
    },
};

/// The stored data of a key, and the verdict.
#[derive(Clone, Debug)]
pub struct Verification {
    pub account: ExternalId,
    pub key_id: KeyId,
    pub scopes: ScopeSet,
    pub expires_at: Option<Timestamp>,
    /// The addresses that the lists of the key and of its account allow. `None` means any address.
    pub allowed_ips: Option<AddressSet>,
    pub limits: VerifiedLimits,
    /// Whether the key is accepted, by the database's clock when the key was read.
    pub verdict: Result<(), Denial>,
}

/// The rate limits that apply to the calls of a key, and their identity.
#[derive(Clone, Debug)]
pub struct VerifiedLimits {
    pub tenant: TenantId,
    pub account: Uuid,
    pub key: Uuid,
    /// The first key of the chain of rotations. The keys of a chain share windows.
    pub chain: Uuid,
    pub generations: LimitGenerations,
    pub limits: LimitSet,
}

/// The result of reading a key on a server.
#[derive(Clone, Debug)]
pub enum KeyRead {
    /// Another server responded, so there is no result. Read again.
    OtherServer,
    /// The tenant has no such key.
    NotFound,
    Found(Verification),
}

/// A key in the form that its owner may see.
#[derive(Clone, Debug)]
pub struct OwnKey {
    pub key: ApiKey,
    pub account: Account,
    /// The rest of the spend limit, in minor units. `None` means that the key has no limit.
    pub spend_left: Option<i64>,
    /// The time by the database's clock when the key was read.
    pub now: Timestamp,
}

impl Store {
    /// Looks up the key with this hash, and the account of the key. The lookup reads both rows on
    /// this server after the call began. Concurrent lookups share a statement.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn verify_api_key(
        &self,
        tenant: &Tenant,
        hash: &KeyHash,
        server: ServerId,
    ) -> Result<KeyRead, StoreError> {
        let _timer = self.timer("verify_api_key");
        let found = self.lookups.api_keys.find(*hash.as_bytes(), Some(server)).await?;
        if found.server != server {
            return Ok(KeyRead::OtherServer);
        }
        // The prefix already determines the tenant. This check is redundant on purpose.
        let Some(row) = found.row.filter(|row| row.tenant_id == tenant.id.uuid()) else {
            return Ok(KeyRead::NotFound);
        };
        let time = |moment| stored_time("api_keys", moment);
        let expires_at = row.expires_at.map(time).transpose()?;
        let state = KeyState {
            revoked_at: row.revoked_at.map(time).transpose()?,
            expires_at,
            enabled: row.enabled,
            tenant: stored_tenant_status(&row.tenant_status)?,
            account: stored_status(&row.status)?,
        };
        let lists = [
            ("api_keys.allowed_ips", &row.key_allowed_ips),
            ("accounts.allowed_ips", &row.account_allowed_ips),
        ];
        let mut allowed_ips: Option<AddressSet> = None;
        for (column, list) in lists {
            let Some(list) = stored_allowed_ips(column, list.as_deref())? else { continue };
            let set = AddressSet::of(&list);
            allowed_ips = Some(allowed_ips.map_or(set.clone(), |other| other.intersection(&set)));
        }
        Ok(KeyRead::Found(Verification {
            account: stored_account(&row.external_id)?,
            key_id: KeyId::from_uuid(row.key_id),
            scopes: self.scope_sets.get(&row.scopes)?,
            expires_at,
            allowed_ips,
            limits: VerifiedLimits {
                tenant: tenant.id,
                account: row.account_id,
                key: row.key_id,
                chain: row.chain,
                generations: row.generations,
                limits: self.limit_sets.get(&row.limits)?,
            },
            verdict: state.judge(time(row.now)?),
        }))
    }

    /// Returns the number of API keys that were looked up by their hash since the start, and the
    /// number of statements for these lookups.
    #[must_use]
    pub fn lookup_counts(&self) -> (u64, u64) {
        self.lookups.api_keys.counts()
    }

    /// Reads a key, its account and the balance, for the holder of the key.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn find_own_key(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
    ) -> Result<OwnKey, StoreError> {
        let _timer = self.timer("find_own_key");
        let account_id = AccountId::derive(tenant.id, account);
        let (key, row) = self
            .read(|mut connection| async move {
                let Some(key) = select(&mut connection, account_id, key_id).await? else {
                    return Ok(None);
                };
                // The statement uses the limit of the row above, not the current limit, because the
                // response shows both the limit and the rest of it.
                let row = sqlx::query!(
                    r#"SELECT /* keys.find_own */
                              a.status, a.balance, ledger_held(a.account_id, a.held) AS "held!",
                              a.created_at, a.rate_limits, a.allowed_ips::text[] AS allowed_ips, a.plan,
                              clock_timestamp() AS "now!",
                              CASE WHEN $3::bigint IS NOT NULL THEN greatest(0, (ledger_left(
                                  k.account_id,
                                  (greatest(ledger_now(), a.last_entry_at) AT TIME ZONE 'UTC')::date,
                                  ARRAY[coalesce(k.spends_as, k.key_id)], ARRAY[$3::bigint],
                                  ARRAY[$4::text]))[1])::bigint END AS spend_left
                       FROM api_keys k JOIN accounts a USING (account_id)
                       WHERE k.account_id = $1 AND k.key_id = $2"#,
                    account_id.uuid(),
                    key_id.uuid(),
                    key.spend_limit,
                    key.spend_period.as_deref(),
                )
                .fetch_one(&mut connection)
                .await?;
                Ok(Some((key, row)))
            })
            .await?
            .ok_or(Refusal::NotFound)?;
        let account = Account {
            id: account_id,
            external_id: account.clone(),
            status: stored_status(&row.status)?,
            balance: row.balance,
            held: row.held,
            rate_limits: stored_limits("accounts.rate_limits", row.rate_limits.as_ref())?,
            allowed_ips: stored_allowed_ips("accounts.allowed_ips", row.allowed_ips.as_deref())?,
            plan: stored_plan(&row.plan)?,
            created_at: stored_time("accounts.created_at", row.created_at)?,
        };
        let now = stored_time("clock_timestamp()", row.now)?;
        Ok(OwnKey { key: key.into_key()?, account, spend_left: row.spend_left, now })
    }
}
