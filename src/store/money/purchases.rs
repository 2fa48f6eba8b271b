use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::ExternalId,
        id::{HoldId, KeyId, PurchaseId},
        tenant::Tenant,
        text::{Description, Metadata, Reference},
        timestamp::Timestamp,
    },
    store::{Refusal, Store, StoreError, clock::stored_time},
};

/// A stored purchase. Amounts are in minor units of the tenant's currency, like the balance.
#[derive(Clone, PartialEq, Debug)]
pub struct Purchase {
    pub id: PurchaseId,
    pub key_id: KeyId,
    pub amount: i64,
    pub balance_after: i64,
    /// The sum of its refunds.
    pub refunded: i64,
    pub reference: Option<Reference>,
    pub description: Option<Description>,
    pub metadata: Metadata,
    /// The hold whose capture made this purchase, if any.
    pub hold_id: Option<HoldId>,
    pub created_at: Timestamp,
}

pub(in crate::store) struct PurchaseRow {
    pub purchase_id: Uuid,
    pub seq: i64,
    pub key_id: Uuid,
    pub amount: i64,
    pub balance_after: i64,
    pub refunded: i64,
    pub reference: Option<String>,
    pub description: Option<String>,
    pub metadata: Value,
    pub hold_id: Option<Uuid>,
    pub created_at: OffsetDateTime,
}

/// Defines a query that returns [`PurchaseRow`]s. `$from` joins the table `purchases`, whose alias
/// is `p`, with `ledger_entries`, whose alias is `e`. `$rest` follows all joins.
macro_rules! select_purchases {
    ($name:literal, $from:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            PurchaseRow,
            "SELECT /* " + $name
            + r#" */
                        p.purchase_id, p.seq, p.key_id, p.amount, e.balance_after,
                        r.refunded AS "refunded!", p.reference, p.description, p.metadata,
                        p.hold_id, p.created_at
                 FROM "# + $from
            + " CROSS JOIN LATERAL (
                     SELECT coalesce(sum(amount), 0)::bigint AS refunded FROM refunds
                     WHERE account_id = p.account_id AND purchase_id = p.purchase_id) AS r "
            + $rest,
            $($argument),*
        )
    };
}

impl PurchaseRow {
    pub fn into_purchase(self) -> Result<Purchase, StoreError> {
        Ok(Purchase {
            id: PurchaseId::from_uuid(self.purchase_id),
            key_id: KeyId::from_uuid(self.key_id),
            amount: self.amount,
            balance_after: self.balance_after,
            refunded: self.refunded,
            reference: self.reference.map(Reference::from_stored),
            description: self.description.map(Description::from_stored),
            metadata: Metadata::from_stored(self.metadata),
            hold_id: self.hold_id.map(HoldId::from_uuid),
            created_at: stored_time("purchases.created_at", self.created_at)?,
        })
    }
}

impl Store {
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), purchase_id = %id))]
    pub async fn find_purchase(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        id: PurchaseId,
    ) -> Result<Purchase, StoreError> {
        let _timer = self.timer("find_purchase");
        let account_id = tenant.account_id(account);
        let row = self
            .read(|mut connection| async move {
                select_purchases!(
                    "purchases.find_purchase",
                    "purchases p JOIN ledger_entries e USING (account_id, seq)",
                    "WHERE p.account_id = $1 AND p.purchase_id = $2",
                    account_id,
                    id.uuid(),
                )
                .fetch_optional(&mut connection)
                .await
            })
            .await?;
        row.ok_or(Refusal::NotFound)?.into_purchase()
    }

    /// Lists an account's purchases with their seq, newest first. `key_id` selects the purchases of
    /// one key.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account)))]
    pub async fn list_purchases(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: Option<KeyId>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<(i64, Purchase)>, StoreError> {
        self.find_account(tenant, account).await?;
        let _timer = self.timer("list_purchases");
        let account_id = tenant.account_id(account);
        let before = before.unwrap_or(i64::MAX);
        // Each filter has its own statement, so that Postgres uses the matching index.
        let rows = match key_id.map(KeyId::uuid) {
            Some(key_id) => self.purchases_of_key(account_id, key_id, None, before, limit).await?,
            None => {
                self.read(|mut connection| async move {
                    select_purchases!(
                        "purchases.list_purchases",
                        "ledger_entries e
                         JOIN purchases p ON p.account_id = e.account_id
                             AND p.purchase_id = e.cause_id",
                        "WHERE e.account_id = $1 AND e.seq < $2 AND e.kind = 'purchase'
                         ORDER BY e.seq DESC LIMIT $3",
                        account_id,
                        before,
                        limit,
                    )
                    .fetch_all(&mut connection)
                    .await
                })
                .await?
            }
        };
        rows.into_iter().map(|row| Ok((row.seq, row.into_purchase()?))).collect()
    }

    /// Lists the purchases of a key with their seq, newest first. `since` omits earlier purchases.
    /// `before` is the seq of the last purchase of the previous page.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %key_id))]
    pub async fn list_purchases_since(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        key_id: KeyId,
        since: Option<Timestamp>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<(i64, Purchase)>, StoreError> {
        self.find_api_key(tenant, account, key_id).await?;
        let _timer = self.timer("list_purchases_since");
        let account_id = tenant.account_id(account);
        let before = before.unwrap_or(i64::MAX);
        let rows = self.purchases_of_key(account_id, key_id.uuid(), since, before, limit).await?;
        rows.into_iter().map(|row| Ok((row.seq, row.into_purchase()?))).collect()
    }

    async fn purchases_of_key(
        &self,
        account_id: Uuid,
        key_id: Uuid,
        since: Option<Timestamp>,
        before: i64,
        limit: i64,
    ) -> Result<Vec<PurchaseRow>, StoreError> {
        let since = since.map(OffsetDateTime::from);
        self.read(|mut connection| async move {
            select_purchases!(
                "purchases.purchases_of_key",
                "purchases p JOIN ledger_entries e USING (account_id, seq)",
                "WHERE p.account_id = $1 AND p.key_id = $2 AND p.seq < $3
                   AND p.seq > (SELECT CASE WHEN $4::timestamptz IS NULL THEN 0
                                            ELSE ledger_seq_before($1, $4) END)
                 ORDER BY p.seq DESC LIMIT $5",
                account_id,
                key_id,
                before,
                since,
                limit,
            )
            .fetch_all(&mut connection)
            .await
        })
        .await
    }
}
