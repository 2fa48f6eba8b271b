//! Batches of operations on balances: one call of a function in the database, one commit.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use sqlx::{
    Encode, PgConnection, Postgres,
    encode::IsNull,
    error::BoxDynError,
    pool::PoolConnection,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, types::PgRecordEncoder},
};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    domain::{
        account::AccountId,
        amount::Amount,
        hold::{MAX_OPEN_HOLDS, NewHold},
        id::{BatchId, HoldId, KeyId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        scope::Scope,
        spend_limit::SpendLimit,
        text::{Description, Reference},
        timestamp::Timestamp,
        verification::Denial,
    },
    store::{
        Refusal, Store, StoreError, clock::stored_time, error::is_lock_timeout,
        keys::row::stored_limit,
    },
};

/// For one attempt, with the wait for its connection: after that it is sent again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Operations of one batch at the most.
pub const MAX_BATCH: usize = 500;

/// A key needs one of these scopes for every operation, as [`Scope::purchases_write`] says.
static PURCHASE_SCOPES: LazyLock<Vec<String>> = LazyLock::new(|| {
    Scope::purchases_write().implied_by().iter().map(ToString::to_string).collect()
});

/// Something that an API key asks of its account's balance.
#[derive(Clone, Debug)]
pub struct Operation {
    pub account_id: AccountId,
    pub key_id: KeyId,
    pub request_id: RequestId,
    pub action: OperationAction,
}

/// What is asked. The new ids are chosen before, so that a batch that is sent again finds itself.
#[derive(Clone, Debug)]
pub enum OperationAction {
    Purchase {
        id: PurchaseId,
        purchase: NewPurchase,
        idempotency_key: Option<IdempotencyKey>,
    },
    Hold {
        id: HoldId,
        hold: NewHold,
        idempotency_key: Option<IdempotencyKey>,
    },
    /// `amount`: `None` is all of it; the rest is released.
    Capture {
        id: PurchaseId,
        hold_id: HoldId,
        amount: Option<Amount>,
    },
    Void {
        hold_id: HoldId,
    },
}

/// Operations that are sent together. Those of one account take effect in their order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub id: BatchId,
    /// How often it was sent, with this time.
    pub attempt: i32,
    /// Whether to wait a while for an account that is locked, instead of leaving it out.
    pub wait: bool,
    pub operations: Vec<Operation>,
}

/// A connection for one batch after another, which is made for the first: the database does its part
/// faster where it has just done the same.
#[derive(Default)]
pub struct BatchConnection(Option<PoolConnection<Postgres>>);

/// What became of an operation.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Done(Done),
    /// It would have gone over the balance or the key's limit.
    Declined(Decline),
    /// Nothing was done, and nothing is recorded.
    Refused(Refusal),
    /// The account is locked, and was not waited for, or not for longer: nothing was done.
    Busy,
    /// A later attempt of the batch came first: what this one did is not known here.
    Fenced,
}

/// It was done, now or before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// Now: when. Before: what was made then is to be read.
    pub now: Option<DoneNow>,
    /// Of the purchase or the hold that was made before.
    pub made_before: Option<Uuid>,
    /// By another request.
    pub replayed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoneNow {
    pub at: Timestamp,
    /// Minor units; `None`: the balance did not move.
    pub balance_after: Option<i64>,
}

/// What did not reach. Amounts in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decline {
    pub required: i64,
    /// The balance less what is held, or what is left of the limit.
    pub available: i64,
    /// The key's limit, if that did not reach; else the balance did not.
    pub limit: Option<SpendLimit>,
    /// The request that it was decided for.
    pub request_id: RequestId,
    pub replayed: bool,
}

/// The composite type `ledger_operation`.
#[derive(Default)]
struct OperationRow<'a> {
    account_id: Uuid,
    kind: &'a str,
    id: Option<Uuid>,
    key_id: Uuid,
    request_id: Uuid,
    amount: Option<i64>,
    reference: Option<&'a str>,
    description: Option<&'a str>,
    metadata: Option<String>,
    idempotency_key: Option<&'a str>,
    fingerprint: Option<Vec<u8>>,
    hold_id: Option<Uuid>,
    expires_in: Option<i32>,
}

impl sqlx::Type<Postgres> for OperationRow<'_> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name("ledger_operation")
    }
}

impl PgHasArrayType for OperationRow<'_> {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::array_of("ledger_operation")
    }
}

impl<'q> Encode<'q, Postgres> for OperationRow<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let mut record = PgRecordEncoder::new(buffer);
        // In the order of the type.
        record
            .encode(self.account_id)?
            .encode(self.kind)?
            .encode(self.id)?
            .encode(self.key_id)?
            .encode(self.request_id)?
            .encode(self.amount)?
            .encode(self.reference)?
            .encode(self.description)?
            .encode(self.metadata.as_deref())?
            .encode(self.idempotency_key)?
            .encode(self.fingerprint.as_deref())?
            .encode(self.hold_id)?
            .encode(self.expires_in)?;
        record.finish();
        Ok(IsNull::No)
    }
}

impl<'a> OperationRow<'a> {
    fn new(operation: &'a Operation) -> Self {
        let asked = Self {
            account_id: operation.account_id.uuid(),
            key_id: operation.key_id.uuid(),
            request_id: operation.request_id.uuid(),
            ..Self::default()
        };
        match &operation.action {
            OperationAction::Purchase { id, purchase, idempotency_key } => Self {
                kind: "purchase",
                id: Some(id.uuid()),
                amount: Some(purchase.amount.minor_units()),
                reference: purchase.reference.as_ref().map(Reference::as_str),
                description: purchase.description.as_ref().map(Description::as_str),
                metadata: Some(purchase.metadata.to_string()),
                idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
                fingerprint: idempotency_key
                    .as_ref()
                    .map(|_| purchase.fingerprint().as_bytes().to_vec()),
                ..asked
            },
            OperationAction::Hold { id, hold, idempotency_key } => Self {
                kind: "hold",
                id: Some(id.uuid()),
                amount: Some(hold.amount.minor_units()),
                reference: hold.reference.as_ref().map(Reference::as_str),
                idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
                fingerprint: idempotency_key
                    .as_ref()
                    .map(|_| hold.fingerprint().as_bytes().to_vec()),
                expires_in: Some(hold.expires_in.get()),
                ..asked
            },
            OperationAction::Capture { id, hold_id, amount } => Self {
                kind: "capture",
                id: Some(id.uuid()),
                hold_id: Some(hold_id.uuid()),
                amount: amount.map(Amount::minor_units),
                metadata: Some("{}".to_owned()),
                ..asked
            },
            OperationAction::Void { hold_id } => {
                Self { kind: "void", hold_id: Some(hold_id.uuid()), ..asked }
            }
        }
    }
}

/// The composite type `ledger_outcome`.
struct OutcomeRow {
    place: i64,
    result: String,
    replayed: Option<bool>,
    balance_after: Option<i64>,
    decided_at: Option<OffsetDateTime>,
    cause_id: Option<Uuid>,
    required: Option<i64>,
    available: Option<i64>,
    spend_limit: Option<i64>,
    spend_period: Option<String>,
    decided_for: Option<Uuid>,
    reason: Option<String>,
}

impl OutcomeRow {
    fn into_outcome(self) -> Result<Outcome, StoreError> {
        let replayed = self.replayed.unwrap_or(false);
        let refusal = match self.result.as_str() {
            "purchased" | "held" | "captured" | "voided" => {
                let at = self.decided_at.map(|at| stored_time("ledger_outcome.decided_at", at));
                let now = at.transpose()?;
                let now = now.map(|at| DoneNow { at, balance_after: self.balance_after });
                return Ok(Outcome::Done(Done { now, made_before: self.cause_id, replayed }));
            }
            "insufficient_balance" | "spend_limit_exceeded" => {
                let limit = stored_limit(self.spend_limit, self.spend_period.as_deref())?;
                let (Some(required), Some(available), Some(request_id)) =
                    (self.required, self.available, self.decided_for)
                else {
                    return Err(StoreError::corrupt("ledger_outcome", "a decline without amounts"));
                };
                let request_id = RequestId::from_uuid(request_id);
                let decline = Decline { required, available, limit, request_id, replayed };
                return Ok(Outcome::Declined(decline));
            }
            "busy" => return Ok(Outcome::Busy),
            "fenced" => return Ok(Outcome::Fenced),
            "not_found" => Refusal::NotFound,
            "scope_lost" => Refusal::ScopeLost,
            "idempotency_mismatch" => Refusal::IdempotencyMismatch,
            "hold_limit_reached" => Refusal::HoldLimitReached,
            "hold_too_small" => {
                let held = self.available;
                let missing = || StoreError::corrupt("ledger_outcome", "a hold without an amount");
                Refusal::HoldTooSmall { held: held.ok_or_else(missing)? }
            }
            "hold_not_open" => Refusal::HoldNotOpen {
                status: self
                    .reason
                    .as_deref()
                    .unwrap_or_default()
                    .parse()
                    .map_err(|error| StoreError::corrupt("ledger_outcome.reason", error))?,
            },
            "key_denied" => Refusal::KeyDenied(
                self.reason
                    .as_deref()
                    .unwrap_or_default()
                    .parse::<Denial>()
                    .map_err(|error| StoreError::corrupt("ledger_outcome.reason", error))?,
            ),
            _ => return Err(StoreError::corrupt("ledger_outcome.result", self.result)),
        };
        Ok(Outcome::Refused(refusal))
    }
}

impl Store {
    /// Applies a batch, and returns once it is committed: an outcome for each operation, in their
    /// order. After [`StoreError::Unavailable`] it is not known what was done: the same batch is to
    /// be sent again, as its next attempt.
    pub async fn apply(
        &self,
        connection: &mut BatchConnection,
        batch: &Batch,
    ) -> Result<Vec<Outcome>, StoreError> {
        let _timer = self.timer("apply");
        let attempt = async {
            let own = match &mut connection.0 {
                Some(own) => own,
                None => connection.0.insert(self.batches.acquire().await?),
            };
            call(own, batch).await
        };
        let rows = timeout(ATTEMPT_TIMEOUT, attempt).await;
        if !matches!(rows, Ok(Ok(_)))
            && let Some(mut own) = connection.0.take()
        {
            // Given back, the pool would ask it whether it stands, and wait for that without end.
            own.close_on_drop();
        }
        let rows = match rows {
            Ok(Err(error)) if batch.attempt == 1 && is_lock_timeout(&error) => {
                return Ok(vec![Outcome::Busy; batch.operations.len()]);
            }
            rows => rows.map_err(|_| StoreError::Unavailable("no answer in time".into()))??,
        };
        let mut outcomes = vec![None; batch.operations.len()];
        for row in rows {
            let place = usize::try_from(row.place - 1).unwrap_or(usize::MAX);
            let slot = outcomes.get_mut(place);
            let slot = slot.ok_or_else(|| StoreError::corrupt("ledger_outcome.place", place))?;
            *slot = Some(row.into_outcome()?);
        }
        let missing = || StoreError::corrupt("ledger_outcome", "an operation without one");
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }
}

async fn call(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let mut of_accounts: BTreeMap<AccountId, Vec<(usize, &Operation)>> = BTreeMap::new();
    for (place, operation) in batch.operations.iter().enumerate() {
        of_accounts.entry(operation.account_id).or_default().push((place, operation));
    }
    if batch.attempt == 1 && of_accounts.len() > 1 {
        return call_for_all(connection, batch).await;
    }
    // What is sent again waits for locks: one at a time, so that no other account waits along.
    let mut rows = Vec::with_capacity(batch.operations.len());
    for (account_id, operations) in of_accounts {
        let (places, operations): (Vec<_>, Vec<_>) = operations.into_iter().unzip();
        for row in call_for_one(connection, batch, account_id, &operations).await? {
            let place = usize::try_from(row.place - 1).ok().and_then(|place| places.get(place));
            let place = place.map_or(0, |place| i64::try_from(place + 1).unwrap_or(0));
            rows.push(OutcomeRow { place, ..row });
        }
    }
    Ok(rows)
}

async fn call_for_one(
    connection: &mut PgConnection,
    batch: &Batch,
    account_id: AccountId,
    operations: &[&Operation],
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let operations: Vec<_> = operations.iter().copied().map(OperationRow::new).collect();
    sqlx::query_as!(
        OutcomeRow,
        r#"SELECT place AS "place!", result AS "result!", replayed, balance_after, decided_at,
                  cause_id, required, available, spend_limit, spend_period, decided_for, reason
           FROM ledger_apply($1, $2, $3, $4, $5, $6, $7)"#,
        account_id.uuid(),
        batch.id.uuid(),
        batch.attempt,
        batch.wait,
        operations as _,
        MAX_OPEN_HOLDS,
        &PURCHASE_SCOPES[..],
    )
    .fetch_all(connection)
    .await
}

async fn call_for_all(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Vec<OutcomeRow>, sqlx::Error> {
    let operations: Vec<_> = batch.operations.iter().map(OperationRow::new).collect();
    sqlx::query_as!(
        OutcomeRow,
        r#"SELECT place AS "place!", result AS "result!", replayed, balance_after, decided_at,
                  cause_id, required, available, spend_limit, spend_period, decided_for, reason
           FROM ledger_apply_all($1, $2, $3, $4, $5, $6)"#,
        batch.id.uuid(),
        batch.attempt,
        batch.wait,
        operations as _,
        MAX_OPEN_HOLDS,
        &PURCHASE_SCOPES[..],
    )
    .fetch_all(connection)
    .await
}
