use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    entries::{append, next_moment},
    idempotency::{Decided, find_record},
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{AuditAction, AuditTarget, Origin},
        credit::NewCredit,
        id::{AdminKeyId, CreditId},
        idempotency::{IdempotencyKey, IdempotentOperation},
        ledger_entry::EntryCause,
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

/// A top-up as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credit {
    pub id: CreditId,
    /// Minor units of the tenant's currency, as the balance.
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

impl Store {
    /// Tops an account up, once for each idempotency key.
    pub async fn credit(
        &self,
        tenant: &Tenant,
        account: &ExternalId,
        credit: &NewCredit,
        idempotency_key: &IdempotencyKey,
        origin: &Origin,
    ) -> Result<Credited, StoreError> {
        let _timer = self.timer("credit");
        let account_id = AccountId::derive(tenant.id, account);
        let fingerprint = credit.fingerprint();
        let mut tx = self.begin().await?;
        let locked = account::lock(&mut tx, account_id).await?;
        let operation = IdempotentOperation::Credit;
        if let Some(record) = find_record(&mut tx, account_id, operation, idempotency_key).await? {
            let id = CreditId::from_uuid(record.replay(fingerprint)?);
            let credit = select_credit(&mut tx, account_id, id).await?;
            let replayed = record.request_id != origin.request_id || origin.request_id.is_none();
            return Ok(Credited { credit, replayed });
        }
        let at = next_moment(&mut tx, &locked).await?;
        let id = CreditId::new(at, entropy::for_id()?);
        let amount = credit.amount.minor_units();
        let balance_after = locked.balance.checked_add(amount).ok_or(Refusal::BalanceOverflow)?;
        let admin_key_id = origin.actor.admin_key();
        let reference = credit.reference.clone();
        let entry = LedgerEntry {
            seq: locked.last_seq + 1,
            amount,
            balance_after,
            cause: EntryCause::Credit(id),
            key_id: None,
            admin_key_id,
            reference: reference.clone(),
            created_at: at,
        };
        append(&mut tx, account_id, &entry).await?;
        sqlx::query!(
            "INSERT INTO credits (account_id, credit_id, seq, admin_key_id, amount, reference,
                                  created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            account_id.uuid(),
            id.uuid(),
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
            "amount": tenant.policy.currency.format(amount),
            "currency": tenant.policy.currency.code(),
            "reference": reference,
        });
        let subject = Subject::Account(account, Some(AuditTarget::Credit(id)));
        let act = Act { action: AuditAction::AccountCredit, subject, detail };
        act.record(&mut tx, tenant, origin, at).await?;
        tx.commit().await?;
        let credit = Credit { id, amount, balance_after, reference, created_at: at };
        Ok(Credited { credit, replayed: false })
    }
}

async fn select_credit(
    connection: &mut PgConnection,
    account_id: AccountId,
    id: CreditId,
) -> Result<Credit, StoreError> {
    let row = sqlx::query!(
        "SELECT c.amount, e.balance_after, c.reference, c.created_at
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
