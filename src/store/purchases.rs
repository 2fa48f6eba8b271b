use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    LedgerEntry, Refusal, Store, StoreError,
    accounts::{self, LockedAccount},
    api_keys::stored_scopes,
    clock::stored_time,
    idempotency::{Decided, Decision, Operation, find_record},
    ledger::append,
};
use crate::{
    domain::{
        account::{AccountId, ExternalId},
        id::{KeyId, PurchaseId, RequestId},
        idempotency::{Fingerprint, IdempotencyKey},
        money::NewPurchase,
        scope::Scope,
        tenant::Tenant,
        text::Metadata,
        timestamp::Timestamp,
        verification::KeyState,
    },
    entropy,
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
            && let Some(record) = find_record(&mut tx, account_id, Operation::Purchase, key).await?
        {
            return replay(&mut tx, account_id, &record, fingerprint).await;
        }
        let required = request.purchase.amount.minor_units();
        let available = locked.balance;
        let request_id = request.request_id;
        let (outcome, decision) = if required > available {
            let declined =
                PurchaseOutcome::Declined { required, available, request_id, replayed: false };
            (declined, Decision::Declined { required, available })
        } else {
            let id = PurchaseId::new(at, entropy::for_id()?);
            let purchase = purchase_of(request, id, available - required, at);
            insert_purchase(&mut tx, account_id, &purchase, locked.last_seq + 1).await?;
            let purchased = PurchaseOutcome::Purchased { purchase, replayed: false };
            (purchased, Decision::Done(id.uuid()))
        };
        if let Some(key) = &request.idempotency_key {
            let decided = Decided { fingerprint, decision, request_id: Some(request_id) };
            decided.record(&mut tx, account_id, Operation::Purchase, key, at).await?;
        }
        tx.commit().await?;
        Ok(outcome)
    }

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

async fn replay(
    connection: &mut PgConnection,
    account_id: AccountId,
    record: &Decided,
    fingerprint: Fingerprint,
) -> Result<PurchaseOutcome, StoreError> {
    match record.replay(fingerprint)? {
        Decision::Done(id) => {
            let id = PurchaseId::from_uuid(id);
            let purchase = select(connection, account_id, id).await?;
            Ok(PurchaseOutcome::Purchased { purchase, replayed: true })
        }
        Decision::Declined { required, available } => {
            let request_id = record.request_id.ok_or_else(|| {
                StoreError::corrupt("idempotency_records.request_id", "a decline without one")
            })?;
            Ok(PurchaseOutcome::Declined { required, available, request_id, replayed: true })
        }
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

async fn select(
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
