//! An account of the model. It decides operations and stores their results.

use std::collections::BTreeMap;

use tollgate::{
    domain::{
        amount::Amount,
        credit::NewCredit,
        hold::{HoldStatus, NewHold, VoidReason},
        id::{HoldId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        ledger_entry::EntryKind,
        purchase::NewPurchase,
        refund::NewRefund,
        spend_limit::SpendPeriod,
        timestamp::Timestamp,
    },
    store::{BatchOutcome, Decline, Done, DoneNow, OperationAction, Refusal},
};
use uuid::Uuid;

use super::{
    clock,
    keys::{KeyAction, Keys},
    model::RequestedOperation,
    view::{Bought, Entry, Hold, Spent, View},
};

#[derive(Clone, Debug)]
pub struct Account {
    pub suspended: bool,
    pub keys: Keys,
    pub holds: BTreeMap<HoldId, Hold>,
    pub purchases: BTreeMap<PurchaseId, Purchase>,
    entries: Vec<Entry>,
    /// Maps each rotation chain that has or had a spend limit to the number of entries when the
    /// first limit was set, and to the time of the newest of these entries.
    counted: BTreeMap<usize, (usize, Timestamp)>,
    /// Maps each voided hold to the request that voided it.
    voided: BTreeMap<HoldId, RequestId>,
    records: BTreeMap<OperationKey, Record>,
    credits: BTreeMap<String, (NewCredit, BalanceChange)>,
    refunds: BTreeMap<String, (PurchaseId, NewRefund, BalanceChange)>,
}

#[derive(Clone, Debug)]
pub struct Purchase {
    pub amount: i64,
    pub refunded: i64,
}

/// The result of a credit or a refund.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BalanceChange {
    pub amount: i64,
    pub balance_after: i64,
    pub replayed: bool,
}

/// The kind of an operation, and its idempotency key.
type OperationKey = (&'static str, String);

/// The recorded decision for an idempotency key.
#[derive(Clone, Debug)]
struct Record {
    body: Body,
    request_id: RequestId,
    decided: Result<Uuid, Decline>,
}

#[derive(Clone, PartialEq, Debug)]
enum Body {
    Purchase(NewPurchase),
    Hold(NewHold),
}

/// A purchase or a hold that is decided once for its idempotency key.
struct NewOperation {
    id: Uuid,
    name: Option<OperationKey>,
    body: Body,
    amount: i64,
}

fn refused(refusal: Refusal) -> BatchOutcome {
    BatchOutcome::Refused(refusal)
}

fn done_now(at: Timestamp, balance_after: Option<i64>) -> BatchOutcome {
    let now = Some(DoneNow { at, balance_after });
    BatchOutcome::Done(Done { now, made_before: None, replayed: false })
}

fn done_before(id: Uuid, replayed: bool) -> BatchOutcome {
    BatchOutcome::Done(Done { now: None, made_before: Some(id), replayed })
}

impl Account {
    pub fn new(keys: usize) -> Self {
        Self {
            suspended: false,
            keys: Keys::new(keys),
            holds: BTreeMap::new(),
            purchases: BTreeMap::new(),
            entries: Vec::new(),
            counted: BTreeMap::new(),
            voided: BTreeMap::new(),
            records: BTreeMap::new(),
            credits: BTreeMap::new(),
            refunds: BTreeMap::new(),
        }
    }

    pub fn view(&self) -> View {
        View {
            balance: self.balance(),
            held: self.held(),
            suspended: self.suspended,
            last_seq: self.entries.last().map_or(0, |entry| entry.seq),
            last_entry_at: self.entries.last().map(|entry| entry.at),
            entries: self.entries.clone(),
            holds: self.holds.clone(),
            spent: self.spent(),
        }
    }

    /// Marks the holds that have expired.
    pub fn expire(&mut self, now: Timestamp) {
        for hold in self.holds.values_mut() {
            if hold.status == HoldStatus::Open && hold.expires_at <= now {
                hold.status = HoldStatus::Expired;
            }
        }
    }

    pub fn balance(&self) -> i64 {
        self.entries.iter().map(|entry| entry.amount).sum()
    }

    fn held(&self) -> i64 {
        self.open_holds().map(|(_, hold)| hold.amount).sum()
    }

    pub fn available(&self) -> i64 {
        self.balance() - self.held()
    }

    pub fn open_holds(&self) -> impl Iterator<Item = (HoldId, &Hold)> {
        let open = |(_, hold): &(&HoldId, &Hold)| hold.status == HoldStatus::Open;
        self.holds.iter().filter(open).map(|(id, hold)| (*id, hold))
    }

    /// Lists the indexes of the keys that the gate accepts.
    pub fn usable_keys(&self) -> Vec<usize> {
        (0..self.keys.len())
            .filter(|key| self.keys.denial(*key, self.suspended).is_none())
            .collect()
    }

    /// Computes the remaining spend limit of a key, which may be negative. Returns `None` if the
    /// key has no limit.
    pub fn left_of_limit(&self, now: Timestamp, key: usize) -> Option<i64> {
        let limit = self.keys.limit(key)?;
        let spender = self.keys.spender(key);
        let at = self.entry_time(now);
        let counts = |then: Timestamp| match limit.period {
            SpendPeriod::Day => clock::day_of(then) == clock::day_of(at),
            SpendPeriod::Month => clock::month_of(then) == clock::month_of(at),
            SpendPeriod::Total => true,
        };
        let is_same_chain = |key: usize| self.keys.spender(key) == spender;
        let spent: i64 = self
            .entries
            .iter()
            .filter(|entry| entry.bought.as_ref().is_some_and(|bought| is_same_chain(bought.key)))
            .filter(|entry| counts(entry.at))
            .map(|entry| -entry.amount)
            .sum();
        let held: i64 = self
            .open_holds()
            .filter(|(_, hold)| is_same_chain(hold.key))
            .map(|(_, hold)| hold.amount)
            .sum();
        Some(limit.amount.minor_units() - spent - held)
    }

    /// Returns the time of a new entry. It is never earlier than the newest entry, even if the
    /// clock was set back.
    fn entry_time(&self, now: Timestamp) -> Timestamp {
        self.entries.last().map_or(now, |entry| entry.at.max(now))
    }

    /// Computes the spend counters. A counter exists from the first limit on, and includes earlier
    /// purchases.
    fn spent(&self) -> BTreeMap<usize, Spent> {
        let of = |(&spender, &(before, began)): (&usize, &(usize, Timestamp))| {
            let (day, month) = (clock::day_of(began), clock::month_of(began));
            let mut spent = Spent { day, in_day: 0, month, in_month: 0, total: 0 };
            for (index, entry) in self.entries.iter().enumerate() {
                let bought = entry.bought.as_ref();
                if bought.is_none_or(|bought| self.keys.spender(bought.key) != spender) {
                    continue;
                }
                let (day, month) = (clock::day_of(entry.at), clock::month_of(entry.at));
                if index >= before && spent.day != day {
                    (spent.day, spent.in_day) = (day, 0);
                }
                if index >= before && spent.month != month {
                    (spent.month, spent.in_month) = (month, 0);
                }
                spent.in_day -= if spent.day == day { entry.amount } else { 0 };
                spent.in_month -= if spent.month == month { entry.amount } else { 0 };
                spent.total -= entry.amount;
            }
            (spender, spent)
        };
        self.counted.iter().map(of).collect()
    }

    pub fn change_key(
        &mut self,
        now: Timestamp,
        key: usize,
        action: KeyAction,
    ) -> Result<(), Refusal> {
        self.keys.change(key, action)?;
        if matches!(action, KeyAction::Revoke) {
            for hold in self.holds.values_mut() {
                if hold.key == key && hold.status == HoldStatus::Open {
                    hold.status = HoldStatus::Voided;
                    hold.void_reason = Some(VoidReason::KeyRevoked);
                }
            }
        }
        if matches!(action, KeyAction::Limit(Some(_))) {
            let began = self.entries.last().map_or(now, |entry| entry.at);
            let spender = self.keys.spender(key);
            self.counted.entry(spender).or_insert((self.entries.len(), began));
        }
        Ok(())
    }

    pub fn decide(
        &mut self,
        now: Timestamp,
        operation: &RequestedOperation,
        attempt: i32,
    ) -> BatchOutcome {
        // The effect of an earlier attempt remains, even if the key has changed since then.
        if attempt > 1
            && let Some(effect) = self.earlier_effect(operation)
        {
            return done_before(effect, false);
        }
        let Some(key) = operation.key else {
            return refused(Refusal::NotFound);
        };
        if let Some(refusal) = self.keys.denial(key, self.suspended) {
            return refused(refusal);
        }
        let at = self.entry_time(now);
        let request_id = operation.request_id;
        match &operation.action {
            OperationAction::Purchase { id, purchase, idempotency_key } => {
                let amount = purchase.amount.minor_units();
                let new = NewOperation {
                    id: id.uuid(),
                    name: idempotency_key.as_ref().map(|key| name("purchase", key)),
                    body: Body::Purchase(purchase.clone()),
                    amount,
                };
                let bought = Bought { key, id: *id, hold: None };
                self.decide_once(at, key, request_id, new, |account| {
                    Some(account.buy(at, amount, bought))
                })
            }
            OperationAction::Hold { id, hold, idempotency_key } => {
                let amount = hold.amount.minor_units();
                let new = NewOperation {
                    id: id.uuid(),
                    name: idempotency_key.as_ref().map(|key| name("hold", key)),
                    body: Body::Hold(hold.clone()),
                    amount,
                };
                let expires_at = clock::later(at, i64::from(hold.expires_in.get()) * 1_000_000);
                let made = Hold {
                    key,
                    amount,
                    expires_at,
                    status: HoldStatus::Open,
                    void_reason: None,
                    captured: None,
                    purchase: None,
                };
                self.decide_once(at, key, request_id, new, |account| {
                    account.holds.insert(*id, made);
                    None
                })
            }
            OperationAction::Capture { id, hold_id, amount } => {
                let bought = Bought { key, id: *id, hold: Some(*hold_id) };
                self.capture(at, request_id, bought, *amount)
            }
            OperationAction::Void { hold_id } => self.void(at, *hold_id, request_id),
        }
    }

    /// Returns the effect of an earlier attempt of this operation.
    fn earlier_effect(&self, operation: &RequestedOperation) -> Option<Uuid> {
        match &operation.action {
            OperationAction::Purchase { id, .. } => {
                self.purchases.contains_key(id).then(|| id.uuid())
            }
            OperationAction::Hold { id, .. } => self.holds.contains_key(id).then(|| id.uuid()),
            OperationAction::Capture { id, hold_id, .. } => {
                self.purchases.contains_key(id).then(|| hold_id.uuid())
            }
            OperationAction::Void { hold_id } => {
                (self.voided.get(hold_id) == Some(&operation.request_id)).then(|| hold_id.uuid())
            }
        }
    }

    /// Decides an operation, or replays the recorded decision for its idempotency key.
    fn decide_once(
        &mut self,
        at: Timestamp,
        key: usize,
        request_id: RequestId,
        new: NewOperation,
        make: impl FnOnce(&mut Self) -> Option<i64>,
    ) -> BatchOutcome {
        if let Some(record) = new.name.as_ref().and_then(|name| self.records.get(name)) {
            return record.replay(&new.body, request_id);
        }
        let decline = self
            .over_limit(at, key, new.amount, request_id)
            .or_else(|| self.over_balance(new.amount, request_id));
        if let Some(name) = new.name {
            let decided = decline.map_or(Ok(new.id), Err);
            self.records.insert(name, Record { body: new.body, request_id, decided });
        }
        match decline {
            Some(decline) => BatchOutcome::Declined(decline),
            None => done_now(at, make(self)),
        }
    }

    fn capture(
        &mut self,
        at: Timestamp,
        request_id: RequestId,
        bought: Bought,
        amount: Option<Amount>,
    ) -> BatchOutcome {
        let id = bought.hold.expect("a capture has a hold");
        let Some(hold) = self.holds.get(&id).cloned() else {
            return refused(Refusal::NotFound);
        };
        let amount = amount.map_or(hold.amount, Amount::minor_units);
        if hold.captured == Some(amount) {
            return done_before(id.uuid(), true);
        }
        if hold.status != HoldStatus::Open {
            return refused(Refusal::HoldNotOpen { status: hold.status });
        }
        if amount > hold.amount {
            return refused(Refusal::HoldTooSmall { held: hold.amount });
        }
        // The held amount already counts toward the limit of the chain that placed the hold.
        let is_same_chain = self.keys.spender(hold.key) == self.keys.spender(bought.key);
        if !is_same_chain && let Some(decline) = self.over_limit(at, bought.key, amount, request_id)
        {
            return BatchOutcome::Declined(decline);
        }
        let (captured, purchase) = (Some(amount), Some(bought.id));
        let status = HoldStatus::Captured;
        self.holds.insert(id, Hold { status, captured, purchase, ..hold });
        done_now(at, Some(self.buy(at, amount, bought)))
    }

    fn void(&mut self, at: Timestamp, id: HoldId, request_id: RequestId) -> BatchOutcome {
        let Some(hold) = self.holds.get_mut(&id) else {
            return refused(Refusal::NotFound);
        };
        match hold.status {
            HoldStatus::Open => {
                hold.status = HoldStatus::Voided;
                hold.void_reason = Some(VoidReason::ApiKey);
                self.voided.insert(id, request_id);
                done_now(at, None)
            }
            HoldStatus::Voided => done_before(id.uuid(), true),
            status => refused(Refusal::HoldNotOpen { status }),
        }
    }

    fn over_limit(
        &self,
        at: Timestamp,
        key: usize,
        required: i64,
        request_id: RequestId,
    ) -> Option<Decline> {
        let left = self.left_of_limit(at, key)?;
        let (available, limit) = (left.max(0), self.keys.limit(key));
        let decline = Decline { required, available, limit, request_id, replayed: false };
        (required > left).then_some(decline)
    }

    fn over_balance(&self, required: i64, request_id: RequestId) -> Option<Decline> {
        let available = self.available();
        let decline = Decline { required, available, limit: None, request_id, replayed: false };
        (required > available).then_some(decline)
    }

    fn buy(&mut self, at: Timestamp, amount: i64, bought: Bought) -> i64 {
        self.purchases.insert(bought.id, Purchase { amount, refunded: 0 });
        self.append(at, EntryKind::Purchase, -amount, Some(bought))
    }

    /// Appends an entry. Returns the balance after it.
    fn append(
        &mut self,
        at: Timestamp,
        kind: EntryKind,
        amount: i64,
        bought: Option<Bought>,
    ) -> i64 {
        let balance_after = self.balance() + amount;
        let seq = self.entries.last().map_or(1, |entry| entry.seq + 1);
        self.entries.push(Entry { seq, kind, amount, balance_after, at, bought });
        balance_after
    }

    /// Credits the account once for the idempotency key.
    pub fn credit(
        &mut self,
        now: Timestamp,
        credit: &NewCredit,
        key: &IdempotencyKey,
    ) -> Result<BalanceChange, Refusal> {
        if let Some((then, change)) = self.credits.get(key.as_str()) {
            return replay(then == credit, *change);
        }
        let amount = credit.amount.minor_units();
        let balance_after = self.append(self.entry_time(now), EntryKind::Credit, amount, None);
        let change = BalanceChange { amount, balance_after, replayed: false };
        self.credits.insert(key.as_str().to_owned(), (credit.clone(), change));
        Ok(change)
    }

    /// Refunds a purchase or a part of a purchase once for the idempotency key.
    pub fn refund(
        &mut self,
        now: Timestamp,
        id: PurchaseId,
        refund: &NewRefund,
        key: &IdempotencyKey,
    ) -> Result<BalanceChange, Refusal> {
        if let Some((then, body, change)) = self.refunds.get(key.as_str()) {
            return replay((*then, body) == (id, refund), *change);
        }
        let purchase = self.purchases.get_mut(&id).ok_or(Refusal::NotFound)?;
        let refundable = purchase.amount - purchase.refunded;
        let amount = refund.amount.map_or(refundable, Amount::minor_units);
        if amount == 0 || amount > refundable {
            return Err(Refusal::RefundTooLarge { refundable });
        }
        purchase.refunded += amount;
        let balance_after = self.append(self.entry_time(now), EntryKind::Refund, amount, None);
        let change = BalanceChange { amount, balance_after, replayed: false };
        self.refunds.insert(key.as_str().to_owned(), (id, refund.clone(), change));
        Ok(change)
    }
}

impl Record {
    fn replay(&self, body: &Body, request_id: RequestId) -> BatchOutcome {
        if self.body != *body {
            return refused(Refusal::IdempotencyMismatch);
        }
        let replayed = self.request_id != request_id;
        match self.decided {
            Ok(id) => done_before(id, replayed),
            Err(decline) => BatchOutcome::Declined(Decline { replayed, ..decline }),
        }
    }
}

fn name(operation: &'static str, key: &IdempotencyKey) -> OperationKey {
    (operation, key.as_str().to_owned())
}

fn replay(is_the_same: bool, change: BalanceChange) -> Result<BalanceChange, Refusal> {
    if is_the_same {
        Ok(BalanceChange { replayed: true, ..change })
    } else {
        Err(Refusal::IdempotencyMismatch)
    }
}
