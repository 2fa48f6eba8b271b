use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Refusal, Store, StoreError, audit::stored_time};
use crate::domain::{
    account::{AccountId, ExternalId},
    id::{KeyId, PurchaseId},
    tenant::Tenant,
    text::Metadata,
    timestamp::Timestamp,
};

/// A purchase as it is stored.
#[derive(Clone, PartialEq, Debug)]
pub struct Purchase {
    pub id: PurchaseId,
    pub key_id: KeyId,
    /// Minor units of the tenant's currency, as the balance.
    pub amount: i64,
    pub balance_after: i64,
    pub reference: Option<String>,
    pub description: Option<String>,
    pub metadata: Metadata,
    pub created_at: Timestamp,
}

struct PurchaseRow {
    purchase_id: Uuid,
    key_id: Uuid,
    amount: i64,
    balance_after: i64,
    reference: Option<String>,
    description: Option<String>,
    metadata: Value,
    created_at: OffsetDateTime,
}

impl PurchaseRow {
    fn into_purchase(self) -> Result<Purchase, StoreError> {
        Ok(Purchase {
            id: PurchaseId::from_uuid(self.purchase_id),
            key_id: KeyId::from_uuid(self.key_id),
            amount: self.amount,
            balance_after: self.balance_after,
            reference: self.reference,
            description: self.description,
            metadata: Metadata::from_stored(self.metadata),
            created_at: stored_time("purchases.created_at", self.created_at)?,
        })
    }
}

impl Store {
    pub async fn find_purchase(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        id: PurchaseId,
    ) -> Result<Purchase, StoreError> {
        let _timer = self.timer("find_purchase");
        let account_id = AccountId::derive(tenant.id, account);
        let row = self
            .read(|pool| async move {
                let mut connection = pool.acquire().await?;
                select_row(&mut connection, account_id, id).await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_purchase()
    }

    /// An account's purchases, newest first; with `key_id` those of one key.
    pub async fn list_purchases(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: Option<KeyId>,
        before: Option<PurchaseId>,
        limit: i64,
    ) -> Result<Vec<Purchase>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_purchases");
        let account_id = AccountId::derive(tenant.id, account).uuid();
        let before = before.map_or(Uuid::max(), PurchaseId::uuid);
        // One statement for each index that can serve.
        let rows = match key_id.map(KeyId::uuid) {
            Some(key_id) => {
                self.read(|pool| async move {
                    sqlx::query_as!(
                        PurchaseRow,
                        "SELECT p.purchase_id, p.key_id, p.amount, e.balance_after, p.reference,
                                p.description, p.metadata, p.created_at
                         FROM purchases p JOIN ledger_entries e USING (account_id, seq)
                         WHERE p.account_id = $1 AND p.key_id = $2 AND p.purchase_id < $3
                         ORDER BY p.purchase_id DESC LIMIT $4",
                        account_id,
                        key_id,
                        before,
                        limit,
                    )
                    .fetch_all(&pool)
                    .await
                })
                .await?
            }
            None => {
                self.read(|pool| async move {
                    sqlx::query_as!(
                        PurchaseRow,
                        "SELECT p.purchase_id, p.key_id, p.amount, e.balance_after, p.reference,
                                p.description, p.metadata, p.created_at
                         FROM purchases p JOIN ledger_entries e USING (account_id, seq)
                         WHERE p.account_id = $1 AND p.purchase_id < $2
                         ORDER BY p.purchase_id DESC LIMIT $3",
                        account_id,
                        before,
                        limit,
                    )
                    .fetch_all(&pool)
                    .await
                })
                .await?
            }
        };
        rows.into_iter().map(PurchaseRow::into_purchase).collect()
    }
}

pub(super) async fn select(
    connection: &mut PgConnection,
    account_id: AccountId,
    id: PurchaseId,
) -> Result<Purchase, StoreError> {
    let row = select_row(connection, account_id, id).await?;
    row.ok_or_else(|| StoreError::corrupt("idempotency_records.cause_id", "no such purchase"))?
        .into_purchase()
}

async fn select_row(
    connection: &mut PgConnection,
    account_id: AccountId,
    id: PurchaseId,
) -> Result<Option<PurchaseRow>, sqlx::Error> {
    sqlx::query_as!(
        PurchaseRow,
        "SELECT p.purchase_id, p.key_id, p.amount, e.balance_after, p.reference, p.description,
                p.metadata, p.created_at
         FROM purchases p JOIN ledger_entries e USING (account_id, seq)
         WHERE p.account_id = $1 AND p.purchase_id = $2",
        account_id.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await
}
