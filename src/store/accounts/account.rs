use serde_json::{Map, Value, json};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::handle::AccountHandle;
use crate::{
    domain::{
        account::{AccountId, AccountStatus, ExternalId},
        allowed_ips::AllowedIps,
        audit::{AuditAction, Origin},
        plan::PlanName,
        rate_limit::RateLimits,
        tenant::Tenant,
        timestamp::Timestamp,
    },
    store::{
        Refusal, Store, StoreError,
        audit::{Act, Subject},
        changes::ChangeKind,
        clock::{now, stored_time},
        connection::Connection,
        external_ids::stored_account,
        stored_allowed_ips::{allowed_ips_to_store, stored_allowed_ips},
        stored_limits::{limits_to_store, stored_limits},
        transaction::Tx,
        turns::hurry,
    },
};

/// A time later than the creation of every account. The first page of a list begins here. Because
/// every query has such a limit, its plan can use the index. A condition such as `$1 IS NULL OR …`
/// would prevent that.
const END_OF_TIME: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    pub id: AccountId,
    pub external_id: ExternalId,
    pub status: AccountStatus,
    /// The balance in minor units of the tenant's currency.
    pub balance: i64,
    /// The part of the balance that open holds reserve.
    pub held: i64,
    /// The rate limits of all keys of the account together. `None` means that only the tenant's
    /// defaults apply.
    pub rate_limits: Option<RateLimits>,
    /// The networks from which the keys of the account may be used. `None` means any address.
    pub allowed_ips: Option<AllowedIps>,
    /// The plan, which sets the rules for the account's keys.
    pub plan: PlanName,
    pub created_at: Timestamp,
}

/// A change to some settings of an account. A field that is `None` leaves the setting unchanged.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccountChange {
    /// The new rate limits, which replace all old ones. `Some(None)` removes them, so that only the
    /// tenant's defaults apply.
    pub rate_limits: Option<Option<RateLimits>>,
    /// The new networks, which replace all old ones. `Some(None)` removes them, so that the keys
    /// may be used from any address.
    pub allowed_ips: Option<Option<AllowedIps>>,
    /// The new plan.
    pub plan: Option<PlanName>,
}

/// An account whose row is locked until the transaction ends.
pub(in crate::store) struct LockedAccount {
    pub status: AccountStatus,
    pub balance: i64,
    pub last_seq: i64,
    pub last_entry_at: Option<Timestamp>,
    /// Whether the account has a list of networks.
    pub has_networks: bool,
}

struct AccountRow {
    external_id: String,
    status: String,
    balance: i64,
    held: i64,
    rate_limits: Option<Value>,
    allowed_ips: Option<Vec<String>>,
    plan: String,
    created_at: OffsetDateTime,
}

/// Defines a query that returns [`AccountRow`]s. `$rest` follows the table `accounts`.
macro_rules! select_accounts {
    ($name:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            AccountRow,
            "SELECT /* " + $name
            + r#" */
                        external_id, status, balance, ledger_held(account_id, held) AS "held!",
                        rate_limits, allowed_ips::text[] AS allowed_ips, plan, created_at
                 FROM accounts "#
            + $rest,
            $($argument),*
        )
    };
}

impl Account {
    /// Returns the settings that differ in `new`, as the audit event of a change shows them.
    fn differences(&self, new: &Self) -> Map<String, Value> {
        let settings = |account: &Self| {
            [
                ("rate_limits", json!(account.rate_limits.as_ref().map(RateLimits::to_value))),
                ("allowed_ips", json!(account.allowed_ips)),
                ("plan", json!(account.plan)),
            ]
        };
        let pairs = settings(self).into_iter().zip(settings(new));
        pairs
            .filter(|((_, from), (_, to))| from != to)
            .map(|((name, from), (_, to))| (name.to_owned(), json!({"from": from, "to": to})))
            .collect()
    }
}

impl AccountChange {
    /// Returns the account after this change.
    fn applied_to(&self, old: &Account) -> Account {
        let Self { rate_limits, allowed_ips, plan } = self.clone();
        Account {
            rate_limits: rate_limits.unwrap_or_else(|| old.rate_limits.clone()),
            allowed_ips: allowed_ips.unwrap_or_else(|| old.allowed_ips.clone()),
            plan: plan.unwrap_or_else(|| old.plan.clone()),
            ..old.clone()
        }
    }
}

impl AccountRow {
    fn into_account(self, tenant: &Tenant) -> Result<Account, StoreError> {
        let external_id = stored_account(&self.external_id)?;
        Ok(Account {
            id: AccountId::derive(tenant.id, &external_id),
            external_id,
            status: stored_status(&self.status)?,
            balance: self.balance,
            held: self.held,
            rate_limits: stored_limits("accounts.rate_limits", self.rate_limits.as_ref())?,
            allowed_ips: stored_allowed_ips("accounts.allowed_ips", self.allowed_ips.as_deref())?,
            plan: stored_plan(&self.plan)?,
            created_at: stored_time("accounts.created_at", self.created_at)?,
        })
    }
}

pub(in crate::store) fn stored_status(status: &str) -> Result<AccountStatus, StoreError> {
    status.parse().map_err(|error| StoreError::corrupt("accounts.status", error))
}

/// Parses the stored name of an account's plan.
pub(in crate::store) fn stored_plan(name: &str) -> Result<PlanName, StoreError> {
    name.parse().map_err(|error| StoreError::corrupt("accounts.plan", error))
}

impl Store {
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn find_account(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
    ) -> Result<Account, StoreError> {
        let _timer = self.timer("find_account");
        let account_id = tenant.account_id(account);
        let row = self
            .read(|mut connection| async move {
                select_accounts!("accounts.find_account", "WHERE account_id = $1", account_id)
                    .fetch_optional(&mut connection)
                    .await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_account(tenant)
    }

    /// Lists a tenant's accounts, newest first.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug))]
    pub async fn list_accounts(
        &self,
        tenant: &Tenant,
        before: Option<(Timestamp, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Account>, StoreError> {
        let _timer = self.timer("list_accounts");
        let tenant_id = tenant.id.uuid();
        let (before_time, before_id) = before
            .map_or((END_OF_TIME, Uuid::max()), |(time, id)| (OffsetDateTime::from(time), id));
        let rows = self
            .read(|mut connection| async move {
                select_accounts!(
                    "accounts.list_accounts",
                    "WHERE tenant_id = $1 AND (created_at, account_id) < ($2, $3)
                     ORDER BY created_at DESC, account_id DESC LIMIT $4",
                    tenant_id,
                    before_time,
                    before_id,
                    limit,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(|row| row.into_account(tenant)).collect()
    }
}

impl AccountHandle<'_> {
    /// Creates the account, or reads the existing one. Returns `true` if it was created.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn ensure(&self) -> Result<(Account, bool), StoreError> {
        let _timer = self.store.timer("ensure_account");
        let mut tx = self.store.begin().await?;
        let at = now(&mut tx).await?;
        let made = ensure(&mut tx, self.tenant, self.account, self.origin, at).await?;
        // A separate statement sees a row that another transaction has inserted in the meantime.
        let stored = select(&mut tx, self.tenant, self.id).await?;
        tx.commit().await?;
        Ok((stored, made))
    }

    /// Suspends or activates the account. When the account is suspended, a trigger ends its
    /// dashboard sessions. If the account already has the status, the call records no event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn set_status(&self, status: AccountStatus) -> Result<Account, StoreError> {
        let _timer = self.store.timer("set_account_status");
        if status == AccountStatus::Suspended {
            hurry();
        }
        let (mut tx, locked) = self.begin().await?;
        if locked.status != status {
            let at = now(&mut tx).await?;
            sqlx::query!(
                "UPDATE /* accounts.set_status */ accounts SET status = $2 WHERE account_id = $1",
                self.id.uuid(),
                status.as_str(),
            )
            .execute(&mut *tx)
            .await?;
            let action = match status {
                AccountStatus::Active => AuditAction::AccountActivate,
                AccountStatus::Suspended => AuditAction::AccountSuspend,
            };
            let detail = json!({"status": {"from": locked.status, "to": status}});
            self.record(&mut tx, action, None, detail, at).await?;
        }
        let stored = select(&mut tx, self.tenant, self.id).await?;
        // This announces the change even if the status has not changed, because an earlier call may
        // have failed after its commit, and the client then repeats it.
        self.commit_change(tx, ChangeKind::Account).await?;
        Ok(stored)
    }

    /// Changes the settings of the account. If the account already has them, the call records no
    /// event.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn change(&self, change: &AccountChange) -> Result<Account, StoreError> {
        let _timer = self.store.timer("change_account");
        let (mut tx, _) = self.begin().await?;
        let old = select(&mut tx, self.tenant, self.id).await?;
        let new = change.applied_to(&old);
        let detail = old.differences(&new);
        if !detail.is_empty() {
            let at = now(&mut tx).await?;
            // A column that keeps its value is not written, so that its triggers do not run.
            if old.rate_limits != new.rate_limits {
                sqlx::query!(
                    "UPDATE /* accounts.change_rate_limits */
                            accounts SET rate_limits = $2::text::jsonb WHERE account_id = $1",
                    self.id.uuid(),
                    limits_to_store(new.rate_limits.as_ref()),
                )
                .execute(&mut *tx)
                .await?;
            }
            if old.allowed_ips != new.allowed_ips {
                let networks = allowed_ips_to_store(new.allowed_ips.as_ref());
                sqlx::query!(
                    "UPDATE /* accounts.change_allowed_ips */
                            accounts SET allowed_ips = $2::text[]::cidr[] WHERE account_id = $1",
                    self.id.uuid(),
                    networks.as_deref(),
                )
                .execute(&mut *tx)
                .await?;
            }
            if old.plan != new.plan {
                sqlx::query!(
                    "UPDATE /* accounts.change_plan */
                            accounts SET plan = $2 WHERE account_id = $1",
                    self.id.uuid(),
                    new.plan.as_str(),
                )
                .execute(&mut *tx)
                .await?;
            }
            self.record(&mut tx, AuditAction::AccountChange, None, detail.into(), at).await?;
        }
        // This announces the change even if no setting has changed, because an earlier call may
        // have failed after its commit, and the client then repeats it.
        let kind = match change {
            AccountChange { allowed_ips: None, plan: None, .. } => ChangeKind::Limits,
            _ => ChangeKind::Account,
        };
        self.commit_change(tx, kind).await?;
        Ok(new)
    }

    /// Announces a change to the account and commits it. Returns when every node has applied it.
    async fn commit_change(&self, mut tx: Tx, kind: ChangeKind) -> Result<(), StoreError> {
        let (tenant, account) = (self.tenant.id, self.id);
        let change = self.store.announce_account(&mut tx, tenant, account, kind).await?;
        let committed = tx.commit_and_keep().await?;
        change.settle(self.store, committed).await;
        Ok(())
    }

    /// Begins a transaction and locks the account's row. The data of the account that later
    /// statements read does not change until the commit.
    pub(in crate::store) async fn begin(&self) -> Result<(Tx, LockedAccount), StoreError> {
        let mut tx = self.store.begin().await?;
        let locked = lock(&mut tx, self.id).await?;
        Ok((tx, locked))
    }
}

/// Locks the account's row. The data of the account that later statements read does not change
/// until the commit. The lock is weak enough that foreign-key checks of other transactions do not
/// wait for it.
pub(in crate::store) async fn lock(
    connection: &mut Connection,
    account_id: AccountId,
) -> Result<LockedAccount, StoreError> {
    let row = sqlx::query!(
        r#"SELECT /* accounts.lock */
                  status, balance, last_seq, last_entry_at,
                  allowed_ips IS NOT NULL AS "has_networks!"
           FROM accounts WHERE account_id = $1 FOR NO KEY UPDATE"#,
        account_id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or(Refusal::NotFound)?;
    Ok(LockedAccount {
        status: stored_status(&row.status)?,
        balance: row.balance,
        last_seq: row.last_seq,
        last_entry_at: row
            .last_entry_at
            .map(|at| stored_time("accounts.last_entry_at", at))
            .transpose()?,
        has_networks: row.has_networks,
    })
}

async fn select(
    connection: &mut Connection,
    tenant: &Tenant,
    account_id: AccountId,
) -> Result<Account, StoreError> {
    select_accounts!("accounts.select", "WHERE account_id = $1", account_id.uuid())
        .fetch_one(connection)
        .await?
        .into_account(tenant)
}

/// Creates an account unless it exists, and records the creation. Returns `true` if it was created.
pub(in crate::store) async fn ensure(
    connection: &mut Connection,
    tenant: &Tenant,
    account: &ExternalId,
    origin: &Origin,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let made = sqlx::query!(
        "INSERT /* accounts.ensure */
                INTO accounts (account_id, tenant_id, external_id, status, balance, last_seq,
                               created_at)
         VALUES ($1, $2, $3, 'active', 0, 0, $4)
         ON CONFLICT (account_id) DO NOTHING",
        tenant.account_id(account),
        tenant.id.uuid(),
        account.as_str(),
        OffsetDateTime::from(at),
    )
    .execute(&mut *connection)
    .await?
    .rows_affected()
        == 1;
    if made {
        let subject = Subject::Account(account, None);
        let act = Act { action: AuditAction::AccountCreate, subject, detail: json!({}) };
        act.record(connection, tenant, origin, at).await?;
    }
    Ok(made)
}
