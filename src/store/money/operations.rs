//! Operations that API keys request on balances, and their outcomes.

use uuid::Uuid;

use crate::{
    domain::{
        account::AccountId,
        amount::Amount,
        hold::NewHold,
        id::{HoldId, KeyId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        spend_limit::SpendLimit,
        text_enum::text_enum,
        timestamp::Timestamp,
    },
    store::Refusal,
};

/// An operation that an API key requests on the balance of its account.
#[derive(Clone, Debug)]
pub struct Operation {
    pub account_id: AccountId,
    pub key_id: KeyId,
    pub request_id: RequestId,
    pub action: OperationAction,
}

/// The action of an operation. The program chooses new ids in advance, so that a retried batch
/// finds its own effects.
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
    /// Captures the hold. Without an `amount`, the purchase takes the whole hold. With an `amount`,
    /// the rest is released.
    Capture {
        id: PurchaseId,
        hold_id: HoldId,
        amount: Option<Amount>,
    },
    Void {
        hold_id: HoldId,
    },
}

text_enum! {
    /// The kinds of [`OperationAction`]. Their texts are the values of `ledger_operation.kind`, and
    /// of the label `kind` of the metric `tollgate_operations_total`.
    pub enum OperationKind {
        Purchase = "purchase",
        Hold = "hold",
        Capture = "capture",
        Void = "void",
    }
}

/// The outcome of one operation of a batch.
#[derive(Clone, PartialEq, Debug)]
pub enum BatchOutcome {
    Done(Done),
    /// The balance or the key's spend limit is insufficient.
    Declined(Decline),
    /// The operation was refused. It had no effect, and the database contains no record of it.
    Refused(Refusal),
    /// Another transaction has locked the account, and the batch did not wait for the lock or
    /// stopped waiting. The operation had no effect.
    Busy,
    /// A later attempt of the batch was applied first, so this attempt does not know the outcome.
    Fenced,
}

/// The effect of an operation, which may have occurred in this attempt or earlier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// The effect of this attempt. `None` if the operation took effect earlier. In this case, the
    /// caller reads the stored object.
    pub now: Option<DoneNow>,
    /// The purchase or hold that was created earlier.
    pub made_before: Option<Uuid>,
    /// Whether another request caused the effect.
    pub replayed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DoneNow {
    pub at: Timestamp,
    /// The balance in minor units. `None` if the balance did not change.
    pub balance_after: Option<i64>,
}

/// The reason why an operation was declined. Amounts are in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decline {
    pub required: i64,
    /// The available balance, or the rest of the spend limit.
    pub available: i64,
    /// The key's spend limit, if it was exceeded. `None` if the balance was insufficient.
    pub limit: Option<SpendLimit>,
    /// The id of the request that was declined first.
    pub request_id: RequestId,
    pub replayed: bool,
}

impl OperationAction {
    #[must_use]
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Purchase { .. } => OperationKind::Purchase,
            Self::Hold { .. } => OperationKind::Hold,
            Self::Capture { .. } => OperationKind::Capture,
            Self::Void { .. } => OperationKind::Void,
        }
    }
}
