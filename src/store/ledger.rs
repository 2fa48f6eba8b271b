use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Purchase, Refusal, Store, StoreError,
    accounts::{self, LockedAccount},
    api_keys::stored_scopes,
    audit::{Act, Subject, now, stored_time},
    purchases,
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{Action, Origin},
        id::{AdminKeyId, CreditId, KeyId, PurchaseId, RequestId},
        idempotency::{Fingerprint, IdempotencyKey},
        money::{NewCredit, NewPurchase},
        scope::Scope,
        tenant::Tenant,
        timestamp::Timestamp,
        verification::KeyState,
    },
    entropy,
};

/// A purchase that one key asks for.
#[derive(Clone, Debug)]
pub struct PurchaseRequest {
    pub account: ExternalId,
    pub key_id: KeyId,
    pub purchase: NewPurchase,
    pub idempotency_key: Option<IdempotencyKey>,
    pub request_id: RequestId,
}

/// What was decided, now or at the first of several equal requests.
#[derive(Clone, PartialEq, Debug)]
pub enum PurchaseOutcome {
    Purchased {
        purchase: Purchase,
        replayed: bool,
    },
    /// The balance did not reach; nothing was deducted. Amounts in minor units.
    Declined {
        required: i64,
        available: i64,
        /// The request that it was decided for.
        request_id: RequestId,
        replayed: bool,
    },
}

/// A top-up as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credit {
    pub id: CreditId,
    /// Minor units of the tenant's currency, as the balance.
    pub amount: i64,
    pub balance_after: i64,
    pub reference: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Credited {
    pub credit: Credit,
    pub replayed: bool,
}

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
        let locked = accounts::lock(&mut tx, account_id).await?;
        if let Some(record) = find_record(&mut tx, account_id, idempotency_key).await? {
            let Cause::Credit(id) = record.replay(fingerprint)? else {
                return Err(Refusal::IdempotencyMismatch.into());
            };
            return Ok(Credited {
                credit: select_credit(&mut tx, account_id, id).await?,
                replayed: true,
            });
        }
        let at = now(&mut tx).await?;
        let id = CreditId::new(at, entropy::for_id()?);
        let amount = credit.amount.minor_units();
        let balance_after = locked.balance.checked_add(amount).ok_or(Refusal::BalanceOverflow)?;
        let admin_key_id = origin.actor.admin_key();
        let entry = LedgerEntry {
            seq: locked.last_seq + 1,
            kind: "credit".to_owned(),
            amount,
            balance_after,
            cause_id: id.uuid(),
            key_id: None,
            admin_key_id,
            created_at: at,
        };
        append(&mut tx, account_id, &entry).await?;
        let reference = credit.reference.as_ref().map(|text| text.as_str().to_owned());
        sqlx::query!(
            "INSERT INTO credits (account_id, credit_id, seq, admin_key_id, amount, reference,
                                  created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            account_id.uuid(),
            id.uuid(),
            entry.seq,
            admin_key_id.map(AdminKeyId::uuid),
            amount,
            reference,
            OffsetDateTime::from(at),
        )
        .execute(&mut *tx)
        .await?;
        let decided =
            Decided { fingerprint, cause: Cause::Credit(id), request_id: origin.request_id };
        decided.record(&mut tx, account_id, idempotency_key, at).await?;
        let detail = json!({
            "amount": tenant.policy.currency.format(amount),
            "currency": tenant.policy.currency.code(),
            "reference": reference,
        });
        let subject = Subject::Account(account, Some(id.uuid()));
        let act = Act { action: Action::AccountCredit, subject, detail };
        act.record(&mut tx, tenant, origin, at).await?;
        tx.commit().await?;
        let credit = Credit { id, amount, balance_after, reference, created_at: at };
        Ok(Credited { credit, replayed: false })
    }

    /// Takes a purchase off the balance, or declines it, once for each idempotency key. The key
    /// is checked again under the account's lock, which every change of it takes too: once a
    /// revoke has returned, nothing that the key asked for is charged any more.
    pub async fn purchase(
        &self,
        tenant: &Tenant,
        request: &PurchaseRequest,
    ) -> Result<PurchaseOutcome, StoreError> {
        let _timer = self.timer("purchase");
        let account_id = AccountId::derive(tenant.id, &request.account);
        let fingerprint = request.purchase.fingerprint();
        let mut tx = self.begin().await?;
        let locked = accounts::lock(&mut tx, account_id).await?;
        let at = check_key_again(&mut tx, account_id, request.key_id, &locked).await?;
        if let Some(key) = &request.idempotency_key
            && let Some(record) = find_record(&mut tx, account_id, key).await?
        {
            return replay(&mut tx, account_id, &record, fingerprint).await;
        }
        let required = request.purchase.amount.minor_units();
        let available = locked.balance;
        let cause = if required > available {
            Cause::Declined { required, available }
        } else {
            Cause::Purchase(PurchaseId::new(at, entropy::for_id()?))
        };
        let outcome = match cause {
            Cause::Purchase(id) => {
                let purchase = purchase_of(request, id, available - required, at);
                insert_purchase(&mut tx, account_id, &purchase, locked.last_seq + 1).await?;
                PurchaseOutcome::Purchased { purchase, replayed: false }
            }
            _ => {
                let request_id = request.request_id;
                PurchaseOutcome::Declined { required, available, request_id, replayed: false }
            }
        };
        if let Some(key) = &request.idempotency_key {
            let decided = Decided { fingerprint, cause, request_id: Some(request.request_id) };
            decided.record(&mut tx, account_id, key, at).await?;
        }
        tx.commit().await?;
        Ok(outcome)
    }

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

/// What a decision led to.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Purchase(PurchaseId),
    Credit(CreditId),
    Declined { required: i64, available: i64 },
}

/// A decision, to be remembered for its idempotency key in the transaction of its effect.
struct Decided {
    fingerprint: Fingerprint,
    cause: Cause,
    request_id: Option<RequestId>,
}

impl Decided {
    async fn record(
        &self,
        connection: &mut PgConnection,
        account_id: AccountId,
        key: &IdempotencyKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (outcome, cause_id, declined) = match self.cause {
            Cause::Purchase(id) => ("purchased", Some(id.uuid()), None),
            Cause::Credit(id) => ("credited", Some(id.uuid()), None),
            Cause::Declined { required, available } => {
                ("declined", None, Some((required, available)))
            }
        };
        let (required, available) = declined.unzip();
        sqlx::query!(
            "INSERT INTO idempotency_records (account_id, idempotency_key, fingerprint, outcome,
                                              cause_id, required, available, request_id,
                                              created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            account_id.uuid(),
            key.as_str(),
            self.fingerprint.as_bytes(),
            outcome,
            cause_id,
            required,
            available,
            self.request_id.map(RequestId::uuid),
            OffsetDateTime::from(at),
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// What was decided, if it was decided for the same request.
    fn replay(&self, fingerprint: Fingerprint) -> Result<Cause, StoreError> {
        if self.fingerprint == fingerprint {
            Ok(self.cause)
        } else {
            Err(Refusal::IdempotencyMismatch.into())
        }
    }
}

/// Called under the account's lock, in a statement of its own: in the locking one it would see
/// the state from before the wait, and miss what was decided meanwhile.
async fn find_record(
    connection: &mut PgConnection,
    account_id: AccountId,
    key: &IdempotencyKey,
) -> Result<Option<Decided>, StoreError> {
    let row = sqlx::query!(
        "SELECT fingerprint, outcome, cause_id, required, available, request_id
         FROM idempotency_records WHERE account_id = $1 AND idempotency_key = $2",
        account_id.uuid(),
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let fingerprint = Fingerprint::from_stored(&row.fingerprint)
        .ok_or_else(|| StoreError::corrupt("idempotency_records.fingerprint", "not 32 bytes"))?;
    let cause = match (row.outcome.as_str(), row.cause_id, row.required, row.available) {
        ("purchased", Some(id), ..) => Cause::Purchase(PurchaseId::from_uuid(id)),
        ("credited", Some(id), ..) => Cause::Credit(CreditId::from_uuid(id)),
        ("declined", _, Some(required), Some(available)) => Cause::Declined { required, available },
        (other, ..) => return Err(StoreError::corrupt("idempotency_records.outcome", other)),
    };
    let request_id = row.request_id.map(RequestId::from_uuid);
    Ok(Some(Decided { fingerprint, cause, request_id }))
}

async fn replay(
    connection: &mut PgConnection,
    account_id: AccountId,
    record: &Decided,
    fingerprint: Fingerprint,
) -> Result<PurchaseOutcome, StoreError> {
    match record.replay(fingerprint)? {
        Cause::Purchase(id) => {
            let purchase = purchases::select(connection, account_id, id).await?;
            Ok(PurchaseOutcome::Purchased { purchase, replayed: true })
        }
        Cause::Declined { required, available } => {
            let request_id = record.request_id.ok_or_else(|| {
                StoreError::corrupt("idempotency_records.request_id", "a decline without one")
            })?;
            Ok(PurchaseOutcome::Declined { required, available, request_id, replayed: true })
        }
        Cause::Credit(_) => Err(Refusal::IdempotencyMismatch.into()),
    }
}

/// Whether the key may still buy, and the database's clock: under the account's lock, in a
/// statement of its own, like [`find_record`].
async fn check_key_again(
    connection: &mut PgConnection,
    account_id: AccountId,
    key_id: KeyId,
    account: &LockedAccount,
) -> Result<Timestamp, StoreError> {
    let row = sqlx::query!(
        r#"SELECT scopes, enabled, expires_at, revoked_at, clock_timestamp() AS "now!"
           FROM api_keys WHERE account_id = $1 AND key_id = $2"#,
        account_id.uuid(),
        key_id.uuid(),
    )
    .fetch_optional(connection)
    .await?
    .ok_or(Refusal::NotFound)?;
    let time = |moment| stored_time("api_keys", moment);
    let state = KeyState {
        revoked_at: row.revoked_at.map(time).transpose()?,
        expires_at: row.expires_at.map(time).transpose()?,
        enabled: row.enabled,
        account: account.status,
    };
    let at = time(row.now)?;
    state.judge(at).map_err(Refusal::KeyDenied)?;
    if !stored_scopes(&row.scopes)?.allows(&Scope::purchases_write()) {
        return Err(Refusal::ScopeLost.into());
    }
    Ok(at)
}

fn purchase_of(
    request: &PurchaseRequest,
    id: PurchaseId,
    balance_after: i64,
    at: Timestamp,
) -> Purchase {
    let wanted = &request.purchase;
    Purchase {
        id,
        key_id: request.key_id,
        amount: wanted.amount.minor_units(),
        balance_after,
        reference: wanted.reference.as_ref().map(|text| text.as_str().to_owned()),
        description: wanted.description.as_ref().map(|text| text.as_str().to_owned()),
        metadata: wanted.metadata.clone(),
        created_at: at,
    }
}

async fn insert_purchase(
    connection: &mut PgConnection,
    account_id: AccountId,
    purchase: &Purchase,
    seq: i64,
) -> Result<(), StoreError> {
    let entry = LedgerEntry {
        seq,
        kind: "purchase".to_owned(),
        amount: -purchase.amount,
        balance_after: purchase.balance_after,
        cause_id: purchase.id.uuid(),
        key_id: Some(purchase.key_id),
        admin_key_id: None,
        created_at: purchase.created_at,
    };
    append(connection, account_id, &entry).await?;
    sqlx::query!(
        "INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, reference,
                                description, metadata, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::json, $9)",
        account_id.uuid(),
        purchase.id.uuid(),
        seq,
        purchase.key_id.uuid(),
        purchase.amount,
        purchase.reference,
        purchase.description,
        purchase.metadata.to_string(),
        OffsetDateTime::from(purchase.created_at),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Appends an entry and moves the balance by it: nothing else ever moves a balance.
async fn append(
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
        reference: row.reference,
        created_at: stored_time("credits.created_at", row.created_at)?,
    })
}
