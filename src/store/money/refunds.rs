use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    entries::{append, next_moment},
    idempotency::{Decided, find_record},
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        amount::Amount,
        audit::{AuditAction, AuditTarget, Origin},
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
        LedgerEntry, Refusal, Store, StoreError,
        accounts::account,
        audit::{Act, Subject},
        clock::stored_time,
    },
};

/// A refund as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refund {
    pub id: RefundId,
    pub purchase_id: PurchaseId,
    /// Minor units of the tenant's currency, as the balance.
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

impl Store {
    /// Gives back a purchase, or a part of it, once for each idempotency key, and never more than
    /// was paid.
    pub async fn refund(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        purchase_id: PurchaseId,
        refund: &NewRefund,
        idempotency_key: &IdempotencyKey,
        origin: &Origin,
    ) -> Result<Refunded, StoreError> {
        let _timer = self.timer("refund");
        let account_id = AccountId::derive(tenant.id, account);
        let fingerprint = refund.fingerprint(purchase_id);
        let mut tx = self.begin().await?;
        let locked = account::lock(&mut tx, account_id).await?;
        let operation = IdempotentOperation::Refund;
        if let Some(record) = find_record(&mut tx, account_id, operation, idempotency_key).await? {
            let id = RefundId::from_uuid(record.replay(fingerprint)?);
            let refund = select_refund(&mut tx, account_id, id).await?;
            let replayed = record.request_id != origin.request_id || origin.request_id.is_none();
            return Ok(Refunded { refund, replayed });
        }
        let refundable = refundable(&mut tx, account_id, purchase_id).await?;
        let amount = refund.amount.map_or(refundable, Amount::minor_units);
        if amount > refundable || amount == 0 {
            return Err(Refusal::RefundTooLarge { refundable }.into());
        }
        let at = next_moment(&mut tx, &locked).await?;
        let id = RefundId::new(at, entropy::for_id()?);
        let balance_after = locked.balance.checked_add(amount).ok_or(Refusal::BalanceOverflow)?;
        let admin_key_id = origin.actor.admin_key();
        let reference = refund.reference.clone();
        let entry = LedgerEntry {
            seq: locked.last_seq + 1,
            amount,
            balance_after,
            cause: EntryCause::Refund(id),
            key_id: None,
            admin_key_id,
            reference: reference.clone(),
            created_at: at,
        };
        append(&mut tx, account_id, &entry).await?;
        sqlx::query!(
            "INSERT INTO refunds (account_id, refund_id, purchase_id, seq, admin_key_id, amount,
                                  reference, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            account_id.uuid(),
            id.uuid(),
            purchase_id.uuid(),
            entry.seq,
            admin_key_id.map(AdminKeyId::uuid),
            amount,
            reference.as_deref(),
            OffsetDateTime::from(at),
        )
        .execute(&mut *tx)
        .await?;
        let decided = Decided { fingerprint, cause_id: id.uuid(), request_id: origin.request_id };
        decided.record(&mut tx, account_id, operation, idempotency_key, at).await?;
        let detail = json!({
            "purchase_id": purchase_id,
            "amount": tenant.policy.currency.format(amount),
            "currency": tenant.policy.currency.code(),
            "reference": reference,
        });
        let subject = Subject::Account(account, Some(AuditTarget::Refund(id)));
        let act = Act { action: AuditAction::PurchaseRefund, subject, detail };
        act.record(&mut tx, tenant, origin, at).await?;
        tx.commit().await?;
        let refund = Refund { id, purchase_id, amount, balance_after, reference, created_at: at };
        Ok(Refunded { refund, replayed: false })
    }

    /// What was given back of a purchase, newest first.
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
        let account_id = AccountId::derive(tenant.id, account).uuid();
        let before = before.unwrap_or(i64::MAX);
        let rows = self
            .read(|pool| async move {
                sqlx::query!(
                    "SELECT r.seq, r.refund_id, r.purchase_id, r.amount, e.balance_after,
                            r.reference, r.created_at
                     FROM refunds r JOIN ledger_entries e USING (account_id, seq)
                     WHERE r.account_id = $1 AND r.purchase_id = $2 AND r.seq < $3
                     ORDER BY r.seq DESC LIMIT $4",
                    account_id,
                    purchase_id.uuid(),
                    before,
                    limit,
                )
                .fetch_all(&pool)
                .await
            })
            .await?;
        rows.into_iter()
            .map(|row| {
                let seq = row.seq;
                let row = RefundRow {
                    refund_id: row.refund_id,
                    purchase_id: row.purchase_id,
                    amount: row.amount,
                    balance_after: row.balance_after,
                    reference: row.reference,
                    created_at: row.created_at,
                };
                Ok((seq, row.into_refund()?))
            })
            .collect()
    }
}

/// What of a purchase was not given back yet, under the account's lock.
async fn refundable(
    connection: &mut PgConnection,
    account_id: AccountId,
    purchase_id: PurchaseId,
) -> Result<i64, StoreError> {
    let left = sqlx::query_scalar!(
        r#"SELECT p.amount - coalesce((
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
    connection: &mut PgConnection,
    account_id: AccountId,
    id: RefundId,
) -> Result<Refund, StoreError> {
    let row = sqlx::query_as!(
        RefundRow,
        "SELECT r.refund_id, r.purchase_id, r.amount, e.balance_after, r.reference, r.created_at
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
