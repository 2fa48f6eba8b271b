//! The model as proptest drives it: what happens is made out in full, and what has to come of it.

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
    account::Moved,
    clock,
    keys::KeyAct,
    model::{Asked, Ledger, units},
    transitions::{
        self, ACCOUNTS, Again, Ask, HoldPick, KeyPick, Keyed, Part, Pass, Sum, Transition, What,
    },
};

/// Keys that each account has in the beginning.
const KEYS: usize = 2;

/// When the ledger begins. Grace periods, which go by the real clock, are over long before.
const STARTS: [&str; 4] = [
    "2100-01-31T23:59:58Z",
    "2100-02-27T22:00:00Z",
    "2100-12-31T12:00:00Z",
    "2104-02-28T06:00:00Z",
];

/// Batches that are remembered, to be sent again.
const REMEMBERED: usize = 6;

/// What is asked of the service, and what has to come of it.
#[derive(Clone, Debug)]
pub enum Step {
    Nothing,
    Clock(Timestamp),
    SetBack(Timestamp),
    Sweep,
    Credit(CreditAsked, Result<Moved, Refusal>),
    Refund(RefundAsked, Result<Moved, Refusal>),
    Key { account: usize, key: usize, act: KeyAct, expected: Result<(), Refusal> },
    Suspend { account: usize, suspended: bool },
    Batch(Sent, Vec<BatchOutcome>),
}

#[derive(Clone, Debug)]
pub struct CreditAsked {
    pub account: usize,
    pub credit: NewCredit,
    pub key: IdempotencyKey,
}

#[derive(Clone, Debug)]
pub struct RefundAsked {
    pub account: usize,
    pub purchase: PurchaseId,
    pub refund: NewRefund,
    pub key: IdempotencyKey,
}

/// A batch, with the newest of its attempts that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub id: BatchId,
    pub attempt: i32,
    pub wait: bool,
    pub asked: Vec<Asked>,
}

impl Sent {
    fn is_for(&self, account: usize) -> bool {
        self.asked.iter().any(|asked| asked.account == account)
    }
}

#[derive(Clone, Debug)]
pub struct State {
    pub ledger: Ledger,
    /// The step that led here.
    pub step: Step,
    sent: Vec<Sent>,
    credits: Vec<CreditAsked>,
    refunds: Vec<RefundAsked>,
    /// All that were ever asked for, of each account.
    holds: Vec<Vec<HoldId>>,
}

/// The idempotency key of the credit with which an account begins.
pub fn opening() -> IdempotencyKey {
    IdempotencyKey::parse("opening").expect("an idempotency key")
}

/// One of several, counted from the newest.
fn pick<T: Clone>(items: &[T], which: usize) -> Option<T> {
    let place = items.len().checked_sub(1)? - which % items.len();
    items.get(place).cloned()
}

impl State {
    fn new(start: &str, balances: &[i64]) -> Self {
        let mut ledger = Ledger::new(clock::at(start), ACCOUNTS, KEYS);
        for (account, balance) in balances.iter().enumerate().filter(|(_, balance)| **balance > 0) {
            let credit = NewCredit { amount: units(*balance), reference: None };
            ledger.credit(account, &credit, &opening()).expect("it is the first");
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

    fn happen(&mut self, transition: &Transition) -> Step {
        match transition {
            Transition::Pass(pass) => {
                let now = self.moment_of(*pass);
                self.ledger.set_clock(now);
                Step::Clock(now)
            }
            Transition::SetBack(seconds) => {
                let now = clock::later(self.ledger.now, -seconds * 1_000_000);
                self.ledger.set_clock(now);
                Step::SetBack(now)
            }
            Transition::Sweep => Step::Sweep,
            Transition::Credit { account, amount, again } => self.credit(*account, *amount, *again),
            Transition::Refund { account, purchase, part, again } => {
                self.refund(*account, *purchase, *part, *again)
            }
            Transition::Key { account, key, act } => {
                let (account, act) = (*account, *act);
                let Some(key) = self.key(account, *key) else { return Step::Nothing };
                let now = self.ledger.now;
                let expected = self.ledger.accounts[account].change_key(now, key, act);
                Step::Key { account, key, act, expected }
            }
            Transition::Suspend { account, suspended } => {
                self.ledger.accounts[*account].suspended = *suspended;
                Step::Suspend { account: *account, suspended: *suspended }
            }
            Transition::Batch { asks, wait, first_is_lost } => {
                self.batch(asks, *wait, if *first_is_lost { 2 } else { 1 })
            }
            Transition::SentAgain(which) => {
                let Some(mut batch) = pick(&self.sent, *which) else { return Step::Nothing };
                batch.attempt += 1;
                self.sent.retain(|sent| sent.id != batch.id);
                self.remember(batch.clone());
                self.arrive(batch)
            }
            Transition::Late { batch, is_first } => self.late(*batch, *is_first),
        }
    }

    /// Never before now.
    fn moment_of(&self, pass: Pass) -> Timestamp {
        let now = self.ledger.now;
        let (moment, before) = match pass {
            Pass::Micros(micros) => (clock::later(now, micros), 0),
            Pass::ToExpiry { hold, before } => {
                let open = self.ledger.accounts.iter().flat_map(|account| account.open_holds());
                let expiries: Vec<Timestamp> = open.map(|(_, hold)| hold.expires_at).collect();
                (pick(&expiries, hold).unwrap_or(now), before)
            }
            Pass::ToNextDay { before } => (clock::next_day(now), before),
            Pass::ToNextMonth { before } => (clock::next_month(now), before),
        };
        clock::later(moment, -before).max(now)
    }

    fn credit(&mut self, account: usize, amount: i64, again: Option<Again>) -> Step {
        let before = again.and_then(|again| Some((pick(&self.credits, again.which)?, again)));
        let asked = match before {
            Some((mut asked, again)) => {
                if again.other_body {
                    asked.credit.amount = units(asked.credit.amount.minor_units() + 1);
                }
                asked
            }
            None => {
                let credit = NewCredit { amount: units(amount), reference: None };
                let asked = CreditAsked { account, credit, key: self.new_key() };
                self.credits.push(asked.clone());
                asked
            }
        };
        let moved = self.ledger.credit(asked.account, &asked.credit, &asked.key);
        Step::Credit(asked, moved)
    }

    fn refund(
        &mut self,
        account: usize,
        purchase: usize,
        part: Part,
        again: Option<Again>,
    ) -> Step {
        let before = again.and_then(|again| Some((pick(&self.refunds, again.which)?, again)));
        let asked = match before {
            Some((mut asked, again)) => {
                if again.other_body {
                    let amount = asked.refund.amount.map_or(1, |amount| amount.minor_units() + 1);
                    asked.refund.amount = Some(units(amount));
                }
                asked
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
                    Part::All => None,
                    Part::Whole => Some(whole),
                    Part::Units(amount) => Some(amount),
                    Part::Same => Some(left.max(1)),
                    Part::TooMuch(more) => Some(left + more),
                };
                let refund = NewRefund { amount: amount.map(units), reference: None };
                let asked = RefundAsked { account, purchase, refund, key: self.new_key() };
                self.refunds.push(asked.clone());
                asked
            }
        };
        let RefundAsked { account, purchase, refund, key } = &asked;
        let moved = self.ledger.refund(*account, *purchase, refund, key);
        Step::Refund(asked, moved)
    }

    /// Each operation is weighed before the next is thought of, which may be about it.
    fn batch(&mut self, asks: &[Ask], wait: bool, attempt: i32) -> Step {
        let id = BatchId::from_uuid(self.ledger.next_id());
        for account in 0..ACCOUNTS {
            if asks.iter().any(|ask| ask.account == account) {
                assert!(self.ledger.arrive(account, id, attempt), "a new batch meets no fence");
            }
        }
        let (mut asked, mut outcomes) = (Vec::new(), Vec::new());
        for ask in asks {
            let operation = self.ask(ask);
            outcomes.push(self.ledger.decide(&operation, attempt));
            asked.push(operation);
        }
        let batch = Sent { id, attempt, wait, asked };
        self.remember(batch.clone());
        Step::Batch(batch, outcomes)
    }

    fn late(&mut self, which: usize, is_first: bool) -> Step {
        // Where the fence was taken down, nothing comes that late.
        let is_kept_out = |batch: &&Sent| {
            let mut accounts = (0..ACCOUNTS).filter(|account| batch.is_for(*account));
            accounts.all(|account| self.ledger.is_fenced(account, batch.id, batch.attempt))
        };
        let candidates: Vec<Sent> = self.sent.iter().filter(is_kept_out).cloned().collect();
        let Some(mut batch) = pick(&candidates, which) else { return Step::Nothing };
        if is_first {
            batch.attempt = 1;
        }
        self.arrive(batch)
    }

    /// A batch that was sent before.
    fn arrive(&mut self, batch: Sent) -> Step {
        let mut comes = [false; ACCOUNTS];
        for (account, comes) in comes.iter_mut().enumerate() {
            *comes = batch.is_for(account) && self.ledger.arrive(account, batch.id, batch.attempt);
        }
        let mut outcomes = Vec::new();
        for asked in &batch.asked {
            outcomes.push(if comes[asked.account] {
                self.ledger.decide(asked, batch.attempt)
            } else {
                BatchOutcome::Fenced
            });
        }
        Step::Batch(batch, outcomes)
    }

    fn remember(&mut self, batch: Sent) {
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

    fn ask(&mut self, ask: &Ask) -> Asked {
        let account = ask.account;
        let request_id = RequestId::from_uuid(self.ledger.next_id());
        let id = self.ledger.next_id();
        let key = self.key(account, ask.key);
        let action = match ask.what {
            What::Purchase { sum, keyed } => OperationAction::Purchase {
                id: PurchaseId::from_uuid(id),
                purchase: NewPurchase {
                    amount: units(self.amount_of(account, key, sum, keyed)),
                    reference: None,
                    description: None,
                    metadata: Metadata::default(),
                },
                idempotency_key: keyed.map(Keyed::key),
            },
            What::Hold { sum, seconds, keyed } => {
                let amount = units(self.amount_of(account, key, sum, keyed));
                // The body that goes with an idempotency key is always the same.
                let expires_in = if keyed.is_some() { 900 } else { seconds };
                let expires_in = HoldSeconds::try_from(i64::from(expires_in)).expect("in bounds");
                let id = HoldId::from_uuid(id);
                self.holds[account].push(id);
                OperationAction::Hold {
                    id,
                    hold: NewHold { amount, reference: None, expires_in },
                    idempotency_key: keyed.map(Keyed::key),
                }
            }
            What::Capture { hold, part } => {
                let hold_id = self.hold_of(account, hold);
                let hold = self.ledger.accounts[account].holds.get(&hold_id);
                let whole = hold.map_or(1, |hold| hold.amount);
                let amount = match part {
                    Part::All => None,
                    Part::Whole => Some(whole),
                    Part::Units(amount) => Some(amount.min(whole)),
                    Part::Same => Some(hold.and_then(|hold| hold.captured).unwrap_or(whole)),
                    Part::TooMuch(more) => Some(whole + more),
                };
                let id = PurchaseId::from_uuid(id);
                OperationAction::Capture { id, hold_id, amount: amount.map(units) }
            }
            What::Void { hold } => OperationAction::Void { hold_id: self.hold_of(account, hold) },
        };
        Asked { account, key, request_id, action }
    }

    fn amount_of(&self, account: usize, key: Option<usize>, sum: Sum, keyed: Option<Keyed>) -> i64 {
        let account = &self.ledger.accounts[account];
        if let Some(keyed) = keyed {
            return 7 * (keyed.number + 1) + i64::from(keyed.other_body);
        }
        let amount = match sum {
            Sum::Units(amount) => amount,
            Sum::Available(more) => account.available() + more,
            Sum::Left(more) => {
                let left = key.and_then(|key| account.left(self.ledger.now, key));
                left.unwrap_or_else(|| account.available()) + more
            }
        };
        amount.max(1)
    }

    /// An id that nobody asked for, where there is none of that sort.
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

/// The ledger as proptest drives it.
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
        state.step = state.happen(transition);
        state
    }
}
