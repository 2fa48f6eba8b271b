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

text_enum! {
    /// The kinds of [`OperationAction`]: the values of `ledger_operation.kind`, and of the label
    /// `kind` of the metric `tollgate_operations_total`.
    pub enum OperationKind {
        Purchase = "purchase",
        Hold = "hold",
        Capture = "capture",
        Void = "void",
    }
}

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
