//! The state machine for proptest. It turns each transition of the model into a concrete step with
//! an expected result.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use tollgate::{
    domain::{
        credit::NewCredit,
        hold::{HoldSeconds, NewHold},
        id::{BatchId, HoldId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        refund::NewRefund,
        text::Metadata,
        timestamp::Timestamp,
    },
    store::{BatchOutcome, OperationAction, Refusal},
};

use super::{
    account::BalanceChange,
    clock,
    keys::KeyAction,
    model::{Ledger, RequestedOperation, units},
    transitions::{
        self, ACCOUNTS, AmountPick, ClockStep, HoldPick, KeyPick, KeyedBody, OperationKind,
        PartPick, PlannedOperation, Repeat, Transition,
    },
};

/// The initial number of keys in each account.
const KEYS: usize = 2;

/// Start times of the ledger. They are later than the ends of all grace periods, which use the real
/// clock.
const STARTS: [&str; 4] = [
    "2100-01-31T23:59:58Z",
    "2100-02-27T22:00:00Z",
    "2100-12-31T12:00:00Z",
    "2104-02-28T06:00:00Z",
];

/// The number of batches that the state keeps for a later resend.
const REMEMBERED: usize = 6;

/// A step for the service, with its expected result.
#[derive(Clone, Debug)]
pub enum Step {
    Nothing,
    Clock(Timestamp),
    SetClockBack(Timestamp),
    ReleaseHolds,
    Credit(CreditRequest, Result<BalanceChange, Refusal>),
    Refund(RefundRequest, Result<BalanceChange, Refusal>),
    Key { account: usize, key: usize, action: KeyAction, expected: Result<(), Refusal> },
    Suspend { account: usize, suspended: bool },
    Batch(SentBatch, Vec<BatchOutcome>),
}

#[derive(Clone, Debug)]
pub struct CreditRequest {
    pub account: usize,
    pub credit: NewCredit,
    pub key: IdempotencyKey,
}

#[derive(Clone, Debug)]
pub struct RefundRequest {
    pub account: usize,
    pub purchase: PurchaseId,
    pub refund: NewRefund,
    pub key: IdempotencyKey,
}

/// A batch, with the number of its newest attempt.
#[derive(Clone, Debug)]
pub struct SentBatch {
    pub id: BatchId,
    pub attempt: i32,
    pub wait: bool,
    pub operations: Vec<RequestedOperation>,
}

impl SentBatch {
    fn is_for(&self, account: usize) -> bool {
        self.operations.iter().any(|operation| operation.account == account)
    }
}

#[derive(Clone, Debug)]
pub struct State {
    pub ledger: Ledger,
    /// The step that led to this state.
    pub step: Step,
    sent: Vec<SentBatch>,
    credits: Vec<CreditRequest>,
    refunds: Vec<RefundRequest>,
    /// Maps each account to every hold that was requested.
    holds: Vec<Vec<HoldId>>,
}

/// Returns the idempotency key of the opening credit of an account.
pub fn opening() -> IdempotencyKey {
    IdempotencyKey::parse("opening").expect("an idempotency key")
}

/// Picks an item. The index 0 is the newest item, and larger indexes wrap around.
fn pick<T: Clone>(items: &[T], which: usize) -> Option<T> {
    let index = items.len().checked_sub(1)? - which % items.len();
    items.get(index).cloned()
}

impl State {
    fn new(start: &str, balances: &[i64]) -> Self {
        let mut ledger = Ledger::new(clock::at(start), ACCOUNTS, KEYS);
        for (account, balance) in balances.iter().enumerate().filter(|(_, balance)| **balance > 0) {
            let credit = NewCredit { amount: units(*balance), reference: None };
            ledger.credit(account, &credit, &opening()).expect("this is the first credit");
        }
        Self {
            ledger,
            step: Step::Nothing,
            sent: Vec::new(),
            credits: Vec::new(),
            refunds: Vec::new(),
            holds: vec![Vec::new(); ACCOUNTS],
        }
    }

    fn next_step(&mut self, transition: &Transition) -> Step {
        match transition {
            Transition::AdvanceClock(clock_step) => {
                let now = self.time_after(*clock_step);
                self.ledger.set_clock(now);
                Step::Clock(now)
            }
            Transition::SetClockBack(seconds) => {
                let now = clock::later(self.ledger.now, -seconds * 1_000_000);
                self.ledger.set_clock(now);
                Step::SetClockBack(now)
            }
            Transition::ReleaseHolds => Step::ReleaseHolds,
            Transition::Credit { account, amount, repeat } => {
                self.credit(*account, *amount, *repeat)
            }
            Transition::Refund { account, purchase, part, repeat } => {
                self.refund(*account, *purchase, *part, *repeat)
            }
            Transition::Key { account, key, action } => {
                let (account, action) = (*account, *action);
                let Some(key) = self.key(account, *key) else { return Step::Nothing };
                let now = self.ledger.now;
                let expected = self.ledger.accounts[account].change_key(now, key, action);
                Step::Key { account, key, action, expected }
            }
            Transition::Suspend { account, suspended } => {
                self.ledger.accounts[*account].suspended = *suspended;
                Step::Suspend { account: *account, suspended: *suspended }
            }
            Transition::Batch { planned, wait, first_is_lost } => {
                self.batch(planned, *wait, if *first_is_lost { 2 } else { 1 })
            }
            Transition::ResendBatch(which) => {
                let Some(mut batch) = pick(&self.sent, *which) else { return Step::Nothing };
                batch.attempt += 1;
                self.sent.retain(|sent| sent.id != batch.id);
                self.remember(batch.clone());
                self.send_again(batch)
            }
            Transition::LateAttempt { batch, is_first } => self.late_attempt(*batch, *is_first),
        }
    }

    /// Computes the new time. It is never before the current time.
    fn time_after(&self, clock_step: ClockStep) -> Timestamp {
        let now = self.ledger.now;
        let (time, before) = match clock_step {
            ClockStep::Micros(micros) => (clock::later(now, micros), 0),
            ClockStep::ToExpiry { hold, before } => {
                let open = self.ledger.accounts.iter().flat_map(|account| account.open_holds());
                let expiries: Vec<Timestamp> = open.map(|(_, hold)| hold.expires_at).collect();
                (pick(&expiries, hold).unwrap_or(now), before)
            }
            ClockStep::ToNextDay { before } => (clock::next_day(now), before),
            ClockStep::ToNextMonth { before } => (clock::next_month(now), before),
        };
        clock::later(time, -before).max(now)
    }

    fn credit(&mut self, account: usize, amount: i64, repeat: Option<Repeat>) -> Step {
        let before = repeat.and_then(|repeat| Some((pick(&self.credits, repeat.which)?, repeat)));
        let request = match before {
            Some((mut request, repeat)) => {
                if repeat.other_body {
                    request.credit.amount = units(request.credit.amount.minor_units() + 1);
                }
                request
            }
            None => {
                let credit = NewCredit { amount: units(amount), reference: None };
                let request = CreditRequest { account, credit, key: self.new_key() };
                self.credits.push(request.clone());
                request
            }
        };
        let result = self.ledger.credit(request.account, &request.credit, &request.key);
        Step::Credit(request, result)
    }

    fn refund(
        &mut self,
        account: usize,
        purchase: usize,
        part: PartPick,
        repeat: Option<Repeat>,
    ) -> Step {
        let before = repeat.and_then(|repeat| Some((pick(&self.refunds, repeat.which)?, repeat)));
        let request = match before {
            Some((mut request, repeat)) => {
                if repeat.other_body {
                    let amount = request.refund.amount.map_or(1, |amount| amount.minor_units() + 1);
                    request.refund.amount = Some(units(amount));
                }
                request
            }
            None => {
                let purchases = &self.ledger.accounts[account].purchases;
                let ids: Vec<PurchaseId> = purchases.keys().copied().collect();
                let (purchase, whole, left) = match pick(&ids, purchase) {
                    Some(id) => {
                        let purchase = &purchases[&id];
                        (id, purchase.amount, purchase.amount - purchase.refunded)
                    }
                    None => (PurchaseId::from_uuid(self.ledger.next_id()), 1, 1),
                };
                let amount = match part {
                    PartPick::All => None,
                    PartPick::Whole => Some(whole),
                    PartPick::Units(amount) => Some(amount),
                    PartPick::Same => Some(left.max(1)),
                    PartPick::TooMuch(more) => Some(left + more),
                };
                let refund = NewRefund { amount: amount.map(units), reference: None };
                let request = RefundRequest { account, purchase, refund, key: self.new_key() };
                self.refunds.push(request.clone());
                request
            }
        };
        let RefundRequest { account, purchase, refund, key } = &request;
        let result = self.ledger.refund(*account, *purchase, refund, key);
        Step::Refund(request, result)
    }

    /// Decides each operation before it creates the next operation, which may refer to the earlier
    /// one.
    fn batch(&mut self, planned: &[PlannedOperation], wait: bool, attempt: i32) -> Step {
        let id = BatchId::from_uuid(self.ledger.next_id());
        for account in 0..ACCOUNTS {
            if planned.iter().any(|operation| operation.account == account) {
                assert!(self.ledger.arrive(account, id, attempt), "a new batch is not fenced");
            }
        }
        let (mut operations, mut outcomes) = (Vec::new(), Vec::new());
        for planned in planned {
            let operation = self.request(planned);
            outcomes.push(self.ledger.decide(&operation, attempt));
            operations.push(operation);
        }
        let batch = SentBatch { id, attempt, wait, operations };
        self.remember(batch.clone());
        Step::Batch(batch, outcomes)
    }

    fn late_attempt(&mut self, which: usize, is_first: bool) -> Step {
        // An attempt never arrives after the fence has ended.
        let is_fenced = |batch: &&SentBatch| {
            let mut accounts = (0..ACCOUNTS).filter(|account| batch.is_for(*account));
            accounts.all(|account| self.ledger.is_fenced(account, batch.id, batch.attempt))
        };
        let candidates: Vec<SentBatch> = self.sent.iter().filter(is_fenced).cloned().collect();
        let Some(mut batch) = pick(&candidates, which) else { return Step::Nothing };
        if is_first {
            batch.attempt = 1;
        }
        self.send_again(batch)
    }

    /// Sends a batch again.
    fn send_again(&mut self, batch: SentBatch) -> Step {
        let mut arrives = [false; ACCOUNTS];
        for (account, arrives) in arrives.iter_mut().enumerate() {
            *arrives =
                batch.is_for(account) && self.ledger.arrive(account, batch.id, batch.attempt);
        }
        let mut outcomes = Vec::new();
        for operation in &batch.operations {
            outcomes.push(if arrives[operation.account] {
                self.ledger.decide(operation, batch.attempt)
            } else {
                BatchOutcome::Fenced
            });
        }
        Step::Batch(batch, outcomes)
    }

    fn remember(&mut self, batch: SentBatch) {
        self.sent.push(batch);
        if self.sent.len() > REMEMBERED {
            self.sent.remove(0);
        }
    }

    fn new_key(&mut self) -> IdempotencyKey {
        let text = self.ledger.next_id().to_string();
        IdempotencyKey::parse(&text).expect("an idempotency key")
    }

    fn key(&self, account: usize, pick_of: KeyPick) -> Option<usize> {
        let account = &self.ledger.accounts[account];
        match pick_of {
            KeyPick::Usable(which) => pick(&account.usable_keys(), which).or(Some(0)),
            KeyPick::Any(which) => Some(which % account.keys.len()),
            KeyPick::Foreign => None,
        }
    }

    fn request(&mut self, planned: &PlannedOperation) -> RequestedOperation {
        let account = planned.account;
        let request_id = RequestId::from_uuid(self.ledger.next_id());
        let id = self.ledger.next_id();
        let key = self.key(account, planned.key);
        let action = match planned.kind {
            OperationKind::Purchase { sum, keyed } => OperationAction::Purchase {
                id: PurchaseId::from_uuid(id),
                purchase: NewPurchase {
                    amount: units(self.amount_of(account, key, sum, keyed)),
                    reference: None,
                    description: None,
                    metadata: Metadata::default(),
                },
                idempotency_key: keyed.map(KeyedBody::key),
            },
            OperationKind::Hold { sum, seconds, keyed } => {
                let amount = units(self.amount_of(account, key, sum, keyed));
                // Requests with equal idempotency keys have equal bodies.
                let expires_in = if keyed.is_some() { 900 } else { seconds };
                let expires_in = HoldSeconds::try_from(i64::from(expires_in)).expect("in bounds");
                let id = HoldId::from_uuid(id);
                self.holds[account].push(id);
                OperationAction::Hold {
                    id,
                    hold: NewHold { amount, reference: None, expires_in },
                    idempotency_key: keyed.map(KeyedBody::key),
                }
            }
            OperationKind::Capture { hold, part } => {
                let hold_id = self.hold_of(account, hold);
                let hold = self.ledger.accounts[account].holds.get(&hold_id);
                let whole = hold.map_or(1, |hold| hold.amount);
                let amount = match part {
                    PartPick::All => None,
                    PartPick::Whole => Some(whole),
                    PartPick::Units(amount) => Some(amount.min(whole)),
                    PartPick::Same => Some(hold.and_then(|hold| hold.captured).unwrap_or(whole)),
                    PartPick::TooMuch(more) => Some(whole + more),
                };
                let id = PurchaseId::from_uuid(id);
                OperationAction::Capture { id, hold_id, amount: amount.map(units) }
            }
            OperationKind::Void { hold } => {
                OperationAction::Void { hold_id: self.hold_of(account, hold) }
            }
        };
        RequestedOperation { account, key, request_id, action }
    }

    fn amount_of(
        &self,
        account: usize,
        key: Option<usize>,
        sum: AmountPick,
        keyed: Option<KeyedBody>,
    ) -> i64 {
        let account = &self.ledger.accounts[account];
        if let Some(keyed) = keyed {
            return 7 * (keyed.number + 1) + i64::from(keyed.other_body);
        }
        let amount = match sum {
            AmountPick::Units(amount) => amount,
            AmountPick::Available(more) => account.available() + more,
            AmountPick::Left(more) => {
                let left = key.and_then(|key| account.left_of_limit(self.ledger.now, key));
                left.unwrap_or_else(|| account.available()) + more
            }
        };
        amount.max(1)
    }

    /// Returns the id of a hold, or an unused id if no hold matches.
    fn hold_of(&mut self, account: usize, pick_of: HoldPick) -> HoldId {
        let found = match pick_of {
            HoldPick::Open(which) => {
                let open = self.ledger.accounts[account].open_holds();
                pick(&open.map(|(id, _)| id).collect::<Vec<_>>(), which)
            }
            HoldPick::Any(which) => pick(&self.holds[account], which),
            HoldPick::Foreign(which) => pick(&self.holds[1 - account], which),
        };
        found.unwrap_or_else(|| HoldId::from_uuid(self.ledger.next_id()))
    }
}

/// Implements proptest's reference state machine for the model.
pub struct Machine;

impl ReferenceStateMachine for Machine {
    type State = State;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<State> {
        (prop::sample::select(STARTS.to_vec()), prop::collection::vec(0..=200_i64, ACCOUNTS))
            .prop_map(|(start, balances)| State::new(start, &balances))
            .boxed()
    }

    fn transitions(_: &State) -> BoxedStrategy<Transition> {
        transitions::transition().boxed()
    }

    fn apply(mut state: State, transition: &Transition) -> State {
        state.step = state.next_step(transition);
        state
    }
}
