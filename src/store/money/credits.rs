use serde_json::Map;
use time::OffsetDateTime;

use super::{
    entries::next_moment,
    settlement::{Once, Settlement},
};
use crate::{
    domain::{
        account::AccountId,
        audit::{AuditAction, AuditTarget},
        credit::NewCredit,
        id::{AdminKeyId, CreditId},
        idempotency::{IdempotencyKey, IdempotentOperation},
        ledger_entry::EntryCause,
        text::Reference,
        timestamp::Timestamp,
    },
    entropy,
    store::{AccountHandle, LedgerEntry, StoreError, clock::stored_time, connection::Connection},
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credit {
    pub id: CreditId,
    /// The amount in minor units of the tenant's currency, like the balance.
    pub amount: i64,
    pub balance_after: i64,
    pub reference: Option<Reference>,
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credited {
    pub credit: Credit,
    pub replayed: bool,
}

impl AccountHandle<'_> {
    /// Credits the account, once for each idempotency key.
    #[tracing::instrument(level = "debug", skip_all, fields(tenant = %self.tenant.slug, account_id = %self.id.uuid()))]
    pub async fn credit(
        &self,
        credit: &NewCredit,
        idempotency_key: &IdempotencyKey,
    ) -> Result<Credited, StoreError> {
        let _timer = self.store.timer("credit");
        let once = Once {
            operation: IdempotentOperation::Credit,
            key: idempotency_key,
            fingerprint: credit.fingerprint(),
        };
        let (mut tx, locked) = self.begin().await?;
        if let Some((id, replayed)) = self.made_before(&mut tx, once).await? {
            let credit = select_credit(&mut tx, self.id, CreditId::from_uuid(id)).await?;
            return Ok(Credited { credit, replayed });
        }
        let at = next_moment(&mut tx, &locked).await?;
        let id = CreditId::new(at, entropy::for_id()?);
        let settlement = Settlement {
            cause: EntryCause::Credit(id),
            amount: credit.amount.minor_units(),
            reference: credit.reference.as_ref(),
            at,
            action: AuditAction::AccountCredit,
            target: AuditTarget::Credit(id),
            detail: Map::new(),
        };
        let entry = self.settle(&mut tx, &locked, once, settlement).await?;
        sqlx::query!(
            "INSERT /* credits.credit */
                    INTO credits (account_id, credit_id, seq, admin_key_id, amount, reference,
                                  created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            self.id.uuid(),
            id.uuid(),
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
        let credit = Credit { id, amount, balance_after, reference, created_at };
        Ok(Credited { credit, replayed: false })
    }
}

async fn select_credit(
    connection: &mut Connection,
    account_id: AccountId,
    id: CreditId,
) -> Result<Credit, StoreError> {
    let row = sqlx::query!(
        "SELECT /* credits.select_credit */ c.amount, e.balance_after, c.reference, c.created_at
         FROM credits c JOIN ledger_entries e USING (account_id, seq)
         WHERE c.account_id = $1 AND c.credit_id = $2",
        account_id.uuid(),
        id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| StoreError::corrupt("idempotency_records.cause_id", "no such credit"))?;
    Ok(Credit {
        id,
        amount: row.amount,
        balance_after: row.balance_after,
        reference: row.reference.map(Reference::from_stored),
        created_at: stored_time("credits.created_at", row.created_at)?,
    })
}
