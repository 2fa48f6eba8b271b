//! A second implementation of the ledger. It uses one thread and no database, and is simple rather
//! than fast.

use std::collections::BTreeMap;

use tollgate::{
    domain::{
        amount::Amount,
        credit::NewCredit,
        id::{BatchId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        refund::NewRefund,
        timestamp::Timestamp,
    },
    store::{BatchOutcome, OperationAction, Refusal},
};
use uuid::Uuid;

use super::{
    account::{Account, BalanceChange},
    clock,
};

/// How long the fence of a batch makes earlier attempts ineffective.
const FENCE_MICROS: i64 = 86_400_000_000;

#[derive(Clone, Debug)]
pub struct Ledger {
    pub now: Timestamp,
    pub accounts: Vec<Account>,
    /// Maps each account to its fences.
    fences: Vec<BTreeMap<BatchId, Fence>>,
    /// The number of ids that the model has created.
    ids: u128,
}

/// An operation with its ids.
#[derive(Clone, Debug)]
pub struct RequestedOperation {
    pub account: usize,
    /// `None` for a key of another account.
    pub key: Option<usize>,
    pub request_id: RequestId,
    pub action: OperationAction,
}

#[derive(Clone, Debug)]
struct Fence {
    attempt: i32,
    since: Timestamp,
}

pub fn units(amount: i64) -> Amount {
    Amount::from_minor_units(amount).expect("the amount is positive")
}

impl Ledger {
    /// Creates a ledger with empty accounts, each with this number of keys.
    pub fn new(now: Timestamp, accounts: usize, keys: usize) -> Self {
        Self {
            now,
            accounts: vec![Account::new(keys); accounts],
            fences: vec![BTreeMap::new(); accounts],
            ids: 0,
        }
    }

    pub fn next_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    pub fn set_clock(&mut self, now: Timestamp) {
        self.now = now;
        for account in &mut self.accounts {
            account.expire(now);
        }
    }

    /// Records that an attempt of a batch arrives at an account. Returns `false` if a later attempt
    /// arrived first.
    pub fn arrive(&mut self, account: usize, batch: BatchId, attempt: i32) -> bool {
        if self.is_fenced(account, batch, attempt) {
            return false;
        }
        if attempt > 1 {
            let now = self.now;
            let fences = &mut self.fences[account];
            fences.retain(|_, fence| fence.since >= clock::later(now, -FENCE_MICROS));
            fences.insert(batch, Fence { attempt, since: now });
        }
        true
    }

    pub fn is_fenced(&self, account: usize, batch: BatchId, attempt: i32) -> bool {
        let fence = self.fences[account].get(&batch);
        fence.is_some_and(|fence| fence.attempt >= attempt)
    }

    /// Decides an operation of a batch that has arrived, after the earlier operations of the batch.
    pub fn decide(&mut self, operation: &RequestedOperation, attempt: i32) -> BatchOutcome {
        let now = self.now;
        self.accounts[operation.account].decide(now, operation, attempt)
    }

    pub fn credit(
        &mut self,
        account: usize,
        credit: &NewCredit,
        key: &IdempotencyKey,
    ) -> Result<BalanceChange, Refusal> {
        let now = self.now;
        self.accounts[account].credit(now, credit, key)
    }

    pub fn refund(
        &mut self,
        account: usize,
        purchase: PurchaseId,
        refund: &NewRefund,
        key: &IdempotencyKey,
    ) -> Result<BalanceChange, Refusal> {
        let now = self.now;
        self.accounts[account].refund(now, purchase, refund, key)
    }
}
