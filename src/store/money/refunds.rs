use serde_json::{Map, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    entries::next_moment,
    settlement::{Once, Settlement},
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        amount::Amount,
        audit::{AuditAction, AuditTarget},
        id::{AdminKeyId, PurchaseId, RefundId},
        idempotency::{IdempotencyKey, IdempotentOperation},
        ledger_entry::EntryCause,
        refund::NewRefund,
        tenant::Tenant,
        text::Reference,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        AccountHandle, LedgerEntry, Refusal, Store, StoreError, clock::stored_time,
        connection::Connection,
    },
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refund {
    pub id: RefundId,
    pub purchase_id: PurchaseId,
    /// The amount in minor units of the tenant's currency, like the balance.
    pub amount: i64,
    pub balance_after: i64,
    pub reference: Option<Reference>,
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refunded {
    pub refund: Refund,
    pub replayed: bool,
}

struct RefundRow {
    seq: i64,
    refund_id: Uuid,
    purchase_id: Uuid,
    amount: i64,
    balance_after: i64,
    reference: Option<String>,
    created_at: OffsetDateTime,
}

impl RefundRow {
    fn into_refund(self) -> Result<Refund, StoreError> {
        Ok(Refund {
            id: RefundId::from_uuid(self.refund_id),
            purchase_id: PurchaseId::from_uuid(self.purchase_id),
            amount: self.amount,
            balance_after: self.balance_after,
            reference: self.reference.map(Reference::from_stored),
            created_at: stored_time("refunds.created_at", self.created_at)?,
        })
    }
}

impl AccountHandle<'_> {
    /// Refunds a purchase in full or in part, once for each idempotency key. The refunds of a
    /// purchase never exceed its amount.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid(), %purchase_id))]
    pub async fn refund(
        &self,
        purchase_id: PurchaseId,
        refund: &NewRefund,
        idempotency_key: &IdempotencyKey,
    ) -> Result<Refunded, StoreError> {
        let _timer = self.store.timer("refund");
        let once = Once {
            operation: IdempotentOperation::Refund,
            key: idempotency_key,
            fingerprint: refund.fingerprint(purchase_id),
        };
        let (mut tx, locked) = self.begin().await?;
        if let Some((id, replayed)) = self.made_before(&mut tx, once).await? {
            let refund = select_refund(&mut tx, self.id, RefundId::from_uuid(id)).await?;
            return Ok(Refunded { refund, replayed });
        }
        let refundable = refundable(&mut tx, self.id, purchase_id).await?;
        let amount = refund.amount.map_or(refundable, Amount::minor_units);
        if amount > refundable || amount == 0 {
            return Err(Refusal::RefundTooLarge { refundable }.into());
        }
        let at = next_moment(&mut tx, &locked).await?;
        let id = RefundId::new(at, entropy::for_id()?);
        let mut detail = Map::new();
        detail.insert("purchase_id".to_owned(), json!(purchase_id));
        let settlement = Settlement {
            cause: EntryCause::Refund(id),
            amount,
            reference: refund.reference.as_ref(),
            at,
            action: AuditAction::PurchaseRefund,
            target: AuditTarget::Refund(id),
            detail,
        };
        let entry = self.settle(&mut tx, &locked, once, settlement).await?;
        sqlx::query!(
            "INSERT /* refunds.refund */
                    INTO refunds (account_id, refund_id, purchase_id, seq, admin_key_id, amount,
                                  reference, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            self.id.uuid(),
            id.uuid(),
            purchase_id.uuid(),
            entry.seq,
            entry.admin_key_id.map(AdminKeyId::uuid),
            entry.amount,
            entry.reference.as_ref().map(Reference::as_str),
            OffsetDateTime::from(at),
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        self.acknowledge_entry(&entry);
        let LedgerEntry { amount, balance_after, reference, created_at, .. } = entry;
        let refund = Refund { id, purchase_id, amount, balance_after, reference, created_at };
        Ok(Refunded { refund, replayed: false })
    }
}

impl Store {
    /// Lists the refunds of a purchase with their seq, newest first.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %tenant.slug, account_id = %tenant.account_id(account), %purchase_id))]
    pub async fn list_refunds(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        purchase_id: PurchaseId,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<(i64, Refund)>, StoreError> {
        self.find_purchase(tenant, account, purchase_id).await?;
        let _timer = self.timer("list_refunds");
        let account_id = tenant.account_id(account);
        let before = before.unwrap_or(i64::MAX);
        let rows = self
            .read(|mut connection| async move {
                sqlx::query_as!(
                    RefundRow,
                    "SELECT /* refunds.list_refunds */
                            r.seq, r.refund_id, r.purchase_id, r.amount, e.balance_after,
                            r.reference, r.created_at
                     FROM refunds r JOIN ledger_entries e USING (account_id, seq)
                     WHERE r.account_id = $1 AND r.purchase_id = $2 AND r.seq < $3
                     ORDER BY r.seq DESC LIMIT $4",
                    account_id,
                    purchase_id.uuid(),
                    before,
                    limit,
                )
                .fetch_all(&mut connection)
                .await
            })
            .await?;
        rows.into_iter().map(|row| Ok((row.seq, row.into_refund()?))).collect()
    }
}

/// Computes the part of a purchase that is not refunded yet. Call this under the account's lock.
async fn refundable(
    connection: &mut Connection,
    account_id: AccountId,
    purchase_id: PurchaseId,
) -> Result<i64, StoreError> {
    let left = sqlx::query_scalar!(
        r#"SELECT /* refunds.refundable */ p.amount - coalesce((
               SELECT sum(r.amount) FROM refunds r
               WHERE r.account_id = p.account_id AND r.purchase_id = p.purchase_id), 0)::bigint
               AS "left!"
           FROM purchases p WHERE p.account_id = $1 AND p.purchase_id = $2"#,
        account_id.uuid(),
        purchase_id.uuid(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(left.ok_or(Refusal::NotFound)?)
}

async fn select_refund(
    connection: &mut Connection,
    account_id: AccountId,
    id: RefundId,
) -> Result<Refund, StoreError> {
    let row = sqlx::query_as!(
        RefundRow,
        "SELECT /* refunds.select_refund */
                r.seq, r.refund_id, r.purchase_id, r.amount, e.balance_after, r.reference, r.created_at
         FROM refunds r JOIN ledger_entries e USING (account_id, seq)
         WHERE r.account_id = $1 AND r.refund_id = $2",
        account_id.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| StoreError::corrupt("idempotency_records.cause_id", "no such refund"))?;
    row.into_refund()
}
