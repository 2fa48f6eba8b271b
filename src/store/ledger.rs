use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError, clock::stored_time};
use crate::domain::{
    account::{AccountId, ExternalId},
    id::{AdminKeyId, KeyId},
    tenant::Tenant,
    timestamp::Timestamp,
};

/// One line of an account's statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerEntry {
    /// 1, 2, 3, … of its account, without a gap.
    pub seq: i64,
    pub kind: String,
    /// Minor units: above zero in, below zero out.
    pub amount: i64,
    pub balance_after: i64,
    /// The purchase or the credit that it is the effect of.
    pub cause_id: Uuid,
    pub key_id: Option<KeyId>,
    pub admin_key_id: Option<AdminKeyId>,
    pub created_at: Timestamp,
}

impl Store {
    /// An account's statement, newest first.
    pub async fn list_ledger_entries(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        before_seq: Option<i64>,
        limit: i64,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_ledger_entries");
        let account_id = AccountId::derive(tenant.id, account).uuid();
        let before_seq = before_seq.unwrap_or(i64::MAX);
        let rows = self
            .read(|pool| async move {
                sqlx::query!(
                    "SELECT seq, kind, amount, balance_after, cause_id, key_id, admin_key_id,
                            created_at
                     FROM ledger_entries WHERE account_id = $1 AND seq < $2
                     ORDER BY seq DESC LIMIT $3",
                    account_id,
                    before_seq,
                    limit,
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        rows.into_iter()
            .map(|row| {
                Ok(LedgerEntry {
                    seq: row.seq,
                    kind: row.kind,
                    amount: row.amount,
                    balance_after: row.balance_after,
                    cause_id: row.cause_id,
                    key_id: row.key_id.map(KeyId::from_uuid),
                    admin_key_id: row.admin_key_id.map(AdminKeyId::from_uuid),
                    created_at: stored_time("ledger_entries.created_at", row.created_at)?,
                })
            })
            .collect()
    }
}

/// Appends an entry and moves the balance by it: nothing else ever moves a balance.
pub(super) async fn append(
    connection: &mut PgConnection,
    account_id: AccountId,
    entry: &LedgerEntry,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id,
                                     key_id, admin_key_id, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        account_id.uuid(),
        entry.seq,
        entry.kind,
        entry.amount,
        entry.balance_after,
        entry.cause_id,
        entry.key_id.map(KeyId::uuid),
        entry.admin_key_id.map(AdminKeyId::uuid),
        OffsetDateTime::from(entry.created_at),
    )
    .execute(&mut *connection)
    .await?;
    let moved = sqlx::query!(
        "UPDATE accounts SET balance = balance + $2, last_seq = last_seq + 1
         WHERE account_id = $1 AND last_seq + 1 = $3 AND balance + $2 = $4",
        account_id.uuid(),
        entry.amount,
        entry.seq,
        entry.balance_after,
    )
    .execute(connection)
    .await?
    .rows_affected();
    // The second of the two places where the invariant stands: the lock is the first.
    if moved != 1 {
        return Err(StoreError::corrupt("accounts", "the balance moved under its lock"));
    }
    Ok(())
}
