//! Batches of operations on balances: one call of a function in the database, one commit.

use std::{collections::BTreeMap, fmt::Display, str::FromStr, sync::LazyLock, time::Duration};

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
        text_enum::text_enum,
        timestamp::Timestamp,
    },
    store::{
        Refusal, Store, StoreError, clock::stored_time, error::is_lock_timeout,
        keys::row::stored_limit,
    },
};

/// Time limit of one attempt, including the wait for its connection. Then the batch is sent again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of operations in one batch.
pub const MAX_BATCH: usize = 500;

/// A key needs one of these scopes for every operation, as [`Scope::purchases_write`] says.
static PURCHASE_SCOPES: LazyLock<Vec<String>> = LazyLock::new(|| {
    Scope::purchases_write().implied_by().iter().map(ToString::to_string).collect()
});

/// An operation that an API key requests on the balance of its account.
#[derive(Clone, Debug)]
pub struct Operation {
    pub account_id: AccountId,
    pub key_id: KeyId,
    pub request_id: RequestId,
    pub action: OperationAction,
}

/// The operation itself. New ids are chosen before, so that a retried batch finds its own effects.
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
    /// `amount`: `None` captures the whole hold. The rest is released.
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
    /// 1 when it is sent for the first time, 2 for the first retry, and so on.
    pub attempt: i32,
    /// Whether to wait a while for a locked account, instead of skipping it.
    pub wait: bool,
    pub operations: Vec<Operation>,
}

/// A connection that a lane uses for one batch after another. It is made for the first batch.
/// Postgres is faster in a session that has just run the same statement.
#[derive(Default)]
pub struct BatchConnection(Option<PoolConnection<Postgres>>);

/// The outcome of an operation.
#[derive(Clone, PartialEq, Debug)]
pub enum BatchOutcome {
    Done(Done),
    /// The balance or the key's spend limit is insufficient.
    Declined(Decline),
    /// Nothing was done, and nothing is recorded.
    Refused(Refusal),
    /// The account is locked, and the batch did not wait, or not any longer. Nothing was done.
    Busy,
    /// A later attempt of the batch was applied first. Its outcome is not known here.
    Fenced,
}

/// An operation that was done, now or earlier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// `None`: it was done earlier, and the caller reads what was made.
    pub now: Option<DoneNow>,
    /// The purchase or hold that was made earlier.
    pub made_before: Option<Uuid>,
    /// Whether another request did it.
    pub replayed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoneNow {
    pub at: Timestamp,
    /// In minor units. `None`: the balance did not change.
    pub balance_after: Option<i64>,
}

/// Why an operation was declined. Amounts are in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decline {
    pub required: i64,
    /// The available balance, or what is left of the spend limit.
    pub available: i64,
    /// The key's spend limit, if it was exceeded. `None`: the balance was insufficient.
    pub limit: Option<SpendLimit>,
    /// The request of the first decision.
    pub request_id: RequestId,
    pub replayed: bool,
}

text_enum! {
    /// The values of `ledger_operation.kind`.
    enum OperationKind {
        Purchase = "purchase",
        Hold = "hold",
        Capture = "capture",
        Void = "void",
    }
}

text_enum! {
    /// The values of `ledger_outcome.result`.
    enum OutcomeKind {
        Purchased = "purchased",
        Held = "held",
        Captured = "captured",
        Voided = "voided",
        InsufficientBalance = "insufficient_balance",
        SpendLimitExceeded = "spend_limit_exceeded",
        KeyDenied = "key_denied",
        ScopeLost = "scope_lost",
        NotFound = "not_found",
        IdempotencyMismatch = "idempotency_mismatch",
        HoldNotOpen = "hold_not_open",
        HoldTooSmall = "hold_too_small",
        HoldLimitReached = "hold_limit_reached",
        Busy = "busy",
        Fenced = "fenced",
    }
}

/// A row of a composite type that is sent to Postgres. Its wire format is positional, so the
/// members are listed once, for the struct, the encoder, and the list that a test compares with the
/// catalogue.
macro_rules! encoded_composite {
    ($(#[$attribute:meta])* struct $row:ident as $name:literal, $list:ident {
        $($member:ident: $type:ty as $sql:literal,)+
    }) => {
        $(#[$attribute])*
        #[derive(Default)]
        struct $row<'a> {
            $($member: $type,)+
        }

        const $list: &[(&str, &str)] = &[$((stringify!($member), $sql)),+];

        impl sqlx::Type<Postgres> for $row<'_> {
            fn type_info() -> PgTypeInfo {
                PgTypeInfo::with_name($name)
            }
        }

        impl PgHasArrayType for $row<'_> {
            fn array_type_info() -> PgTypeInfo {
                PgTypeInfo::array_of($name)
            }
        }

        impl<'q> Encode<'q, Postgres> for $row<'_> {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                let mut record = PgRecordEncoder::new(buffer);
                $(record.encode(&self.$member)?;)+
                record.finish();
                Ok(IsNull::No)
            }
        }
    };
}

encoded_composite! {
    /// The composite type `ledger_operation`.
    struct OperationRow as "ledger_operation", OPERATION_MEMBERS {
        account_id: Uuid as "uuid",
        kind: &'a str as "text",
        id: Option<Uuid> as "uuid",
        key_id: Uuid as "uuid",
        request_id: Uuid as "uuid",
        amount: Option<i64> as "bigint",
        reference: Option<&'a str> as "text",
        description: Option<&'a str> as "text",
        metadata: Option<String> as "text",
        idempotency_key: Option<&'a str> as "text",
        fingerprint: Option<Vec<u8>> as "bytea",
        hold_id: Option<Uuid> as "uuid",
        expires_in: Option<i32> as "integer",
    }
}

/// The members of `ledger_outcome`. They are read by name. Only the database uses `seq`.
const OUTCOME_MEMBERS: &[(&str, &str)] = &[
    ("place", "bigint"),
    ("result", "text"),
    ("replayed", "boolean"),
    ("seq", "bigint"),
    ("balance_after", "bigint"),
    ("decided_at", "timestamp with time zone"),
    ("cause_id", "uuid"),
    ("required", "bigint"),
    ("available", "bigint"),
    ("spend_limit", "bigint"),
    ("spend_period", "text"),
    ("decided_for", "uuid"),
    ("reason", "text"),
];

/// The composite types that the program and the database exchange: each with the names and SQL types
/// of its members, in their order.
pub const COMPOSITES: [(&str, &[(&str, &str)]); 2] =
    [("ledger_operation", OPERATION_MEMBERS), ("ledger_outcome", OUTCOME_MEMBERS)];

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
                kind: OperationKind::Purchase.as_str(),
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
                kind: OperationKind::Hold.as_str(),
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
                kind: OperationKind::Capture.as_str(),
                id: Some(id.uuid()),
                hold_id: Some(hold_id.uuid()),
                amount: amount.map(Amount::minor_units),
                metadata: Some("{}".to_owned()),
                ..asked
            },
            OperationAction::Void { hold_id } => {
                Self { kind: OperationKind::Void.as_str(), hold_id: Some(hold_id.uuid()), ..asked }
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
    fn into_outcome(self) -> Result<BatchOutcome, StoreError> {
        use OutcomeKind as Kind;
        let replayed = self.replayed.unwrap_or(false);
        let kind = self.result.parse::<OutcomeKind>();
        let kind = kind.map_err(|error| StoreError::corrupt("ledger_outcome.result", error))?;
        let refusal = match kind {
            Kind::Purchased | Kind::Held | Kind::Captured | Kind::Voided => {
                let at = self.decided_at.map(|at| stored_time("ledger_outcome.decided_at", at));
                let now = at.transpose()?;
                let now = now.map(|at| DoneNow { at, balance_after: self.balance_after });
                return Ok(BatchOutcome::Done(Done { now, made_before: self.cause_id, replayed }));
            }
            Kind::InsufficientBalance | Kind::SpendLimitExceeded => {
                return Ok(BatchOutcome::Declined(self.into_decline(replayed)?));
            }
            Kind::Busy => return Ok(BatchOutcome::Busy),
            Kind::Fenced => return Ok(BatchOutcome::Fenced),
            Kind::NotFound => Refusal::NotFound,
            Kind::ScopeLost => Refusal::ScopeLost,
            Kind::IdempotencyMismatch => Refusal::IdempotencyMismatch,
            Kind::HoldLimitReached => Refusal::HoldLimitReached,
            Kind::HoldTooSmall => {
                let missing = || StoreError::corrupt("ledger_outcome", "a hold without an amount");
                Refusal::HoldTooSmall { held: self.available.ok_or_else(missing)? }
            }
            Kind::HoldNotOpen => Refusal::HoldNotOpen { status: self.reason()? },
            Kind::KeyDenied => Refusal::KeyDenied(self.reason()?),
        };
        Ok(BatchOutcome::Refused(refusal))
    }

    fn into_decline(self, replayed: bool) -> Result<Decline, StoreError> {
        let limit = stored_limit(self.spend_limit, self.spend_period.as_deref())?;
        let (Some(required), Some(available), Some(request_id)) =
            (self.required, self.available, self.decided_for)
        else {
            return Err(StoreError::corrupt("ledger_outcome", "a decline without amounts"));
        };
        let request_id = RequestId::from_uuid(request_id);
        Ok(Decline { required, available, limit, request_id, replayed })
    }

    fn reason<T: FromStr<Err: Display>>(&self) -> Result<T, StoreError> {
        let reason = self.reason.as_deref().unwrap_or_default().parse();
        reason.map_err(|error| StoreError::corrupt("ledger_outcome.reason", format!("{error}")))
    }
}

impl Store {
    /// Applies a batch, and returns once it is committed: an outcome for each operation, in their
    /// order. After [`StoreError::Unavailable`] the outcome is unknown: send the same batch again,
    /// as its next attempt.
    #[tracing::instrument(level = "debug", skip_all)]
    pub async fn apply(
        &self,
        connection: &mut BatchConnection,
        batch: &Batch,
    ) -> Result<Vec<BatchOutcome>, StoreError> {
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
            // If it returned to the pool, the pool would ping it and wait without a time limit.
            own.close_on_drop();
        }
        let rows = match rows {
            Ok(Err(error)) if batch.attempt == 1 && is_lock_timeout(&error) => {
                return Ok(vec![BatchOutcome::Busy; batch.operations.len()]);
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
    // A retry waits for locks. With one account at a time, no account waits for another's lock.
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
        r#"SELECT /* batches.call_for_one */
                  place AS "place!", result AS "result!", replayed, balance_after, decided_at,
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
        r#"SELECT /* batches.call_for_all */
                  place AS "place!", result AS "result!", replayed, balance_after, decided_at,
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
