//! The transitions of the ledger, and strategies that draw them.

use proptest::prelude::*;
use tollgate::domain::{
    idempotency::IdempotencyKey,
    spend_limit::{SpendLimit, SpendPeriod},
};

use super::{keys::KeyAction, model::units};

pub const ACCOUNTS: usize = 2;

/// A transition. The state machine chooses its holds, keys and amounts when it applies the
/// transition. So a sequence stays valid when proptest removes parts of the sequence.
#[derive(Clone, Debug)]
pub enum Transition {
    AdvanceClock(ClockStep),
    /// Sets the clock back by this number of seconds.
    SetClockBack(i64),
    /// Releases the expired holds of all accounts.
    ReleaseHolds,
    Credit {
        account: usize,
        amount: i64,
        repeat: Option<Repeat>,
    },
    Refund {
        account: usize,
        purchase: usize,
        part: PartPick,
        repeat: Option<Repeat>,
    },
    Key {
        account: usize,
        key: KeyPick,
        action: KeyAction,
    },
    Suspend {
        account: usize,
        suspended: bool,
    },
    /// A new batch. Its first attempt may be lost or late.
    Batch {
        planned: Vec<PlannedOperation>,
        wait: bool,
        first_is_lost: bool,
    },
    ResendBatch(usize),
    /// An attempt of a batch arrives after a later attempt. It is the first attempt, or a
    /// repetition of the later attempt.
    LateAttempt {
        batch: usize,
        is_first: bool,
    },
}

/// A forward step of the clock.
#[derive(Clone, Copy, Debug)]
pub enum ClockStep {
    Micros(i64),
    /// Advances to the expiry of an open hold, or a little earlier.
    ToExpiry {
        hold: usize,
        before: i64,
    },
    ToNextDay {
        before: i64,
    },
    ToNextMonth {
        before: i64,
    },
}

/// A repetition of an earlier request.
#[derive(Clone, Copy, Debug)]
pub struct Repeat {
    pub which: usize,
    pub other_body: bool,
}

#[derive(Clone, Debug)]
pub struct PlannedOperation {
    pub account: usize,
    pub key: KeyPick,
    pub kind: OperationKind,
}

#[derive(Clone, Copy, Debug)]
pub enum KeyPick {
    /// A key that the gate accepts, if there is one.
    Usable(usize),
    Any(usize),
    /// A key of the other account.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub enum OperationKind {
    Purchase { sum: AmountPick, keyed: Option<KeyedBody> },
    Hold { sum: AmountPick, seconds: i32, keyed: Option<KeyedBody> },
    Capture { hold: HoldPick, part: PartPick },
    Void { hold: HoldPick },
}

/// The hold that an operation uses. The index 0 is the newest hold.
#[derive(Clone, Copy, Debug)]
pub enum HoldPick {
    Open(usize),
    /// Any hold that was ever requested, even if it was declined.
    Any(usize),
    /// A hold of the other account.
    Foreign(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum AmountPick {
    Units(i64),
    /// An amount that exceeds the available balance by this number.
    Available(i64),
    /// An amount that exceeds the remaining spend limit of the key by this number.
    Left(i64),
}

/// An idempotency key with its usual body or with another body.
#[derive(Clone, Copy, Debug)]
pub struct KeyedBody {
    pub number: i64,
    pub other_body: bool,
}

/// The part of a hold or of a purchase that the request names.
#[derive(Clone, Copy, Debug)]
pub enum PartPick {
    /// The request contains no amount.
    All,
    /// The amount of the hold or purchase in full.
    Whole,
    Units(i64),
    /// The amount that was captured, or that can still be refunded.
    Same,
    TooMuch(i64),
}

impl KeyedBody {
    pub fn key(self) -> IdempotencyKey {
        let text = format!("key-{}", self.number);
        IdempotencyKey::parse(&text).expect("an idempotency key")
    }
}

pub fn transition() -> impl Strategy<Value = Transition> {
    prop_oneof![
        14 => batch(),
        4 => clock_step().prop_map(Transition::AdvanceClock),
        1 => rare_transition(),
        3 => credit(),
        2 => refund(),
        4 => (account(), any_key(), key_action())
            .prop_map(|(account, key, action)| Transition::Key { account, key, action }),
        2 => which().prop_map(Transition::ResendBatch),
        1 => (which(), any::<bool>())
            .prop_map(|(batch, is_first)| Transition::LateAttempt { batch, is_first }),
    ]
}

fn account() -> impl Strategy<Value = usize> {
    0..ACCOUNTS
}

fn which() -> impl Strategy<Value = usize> {
    0..6_usize
}

/// Generates how far before the target time the clock stops: 0 or 1 µs.
fn before() -> impl Strategy<Value = i64> {
    0..=1_i64
}

fn clock_step() -> impl Strategy<Value = ClockStep> {
    let (second, hour) = (1_000_000, 3_600_000_000);
    prop_oneof![
        2 => (1..=60_i64).prop_map(move |seconds| ClockStep::Micros(seconds * second)),
        1 => (1..=30_i64).prop_map(move |hours| ClockStep::Micros(hours * hour)),
        1 => (1..=20_i64).prop_map(move |days| ClockStep::Micros(days * 24 * hour)),
        3 => (which(), before()).prop_map(|(hold, before)| ClockStep::ToExpiry { hold, before }),
        2 => before().prop_map(|before| ClockStep::ToNextDay { before }),
        1 => before().prop_map(|before| ClockStep::ToNextMonth { before }),
    ]
}

fn rare_transition() -> impl Strategy<Value = Transition> {
    prop_oneof![
        2 => Just(Transition::ReleaseHolds),
        1 => (1..=30_i64).prop_map(Transition::SetClockBack),
        2 => (account(), prop::bool::weighted(0.4))
            .prop_map(|(account, suspended)| Transition::Suspend { account, suspended }),
    ]
}

fn repeat() -> impl Strategy<Value = Option<Repeat>> {
    let repeat = (which(), prop::bool::weighted(0.3));
    prop::option::weighted(0.3, repeat.prop_map(|(which, other_body)| Repeat { which, other_body }))
}

fn credit() -> impl Strategy<Value = Transition> {
    (account(), 1..=100_i64, repeat()).prop_map(|(account, amount, repeat)| Transition::Credit {
        account,
        amount,
        repeat,
    })
}

fn refund() -> impl Strategy<Value = Transition> {
    (account(), which(), part(), repeat()).prop_map(|(account, purchase, part, repeat)| {
        Transition::Refund { account, purchase, part, repeat }
    })
}

fn part() -> impl Strategy<Value = PartPick> {
    prop_oneof![
        2 => Just(PartPick::All),
        1 => Just(PartPick::Whole),
        3 => (1..=30_i64).prop_map(PartPick::Units),
        1 => Just(PartPick::Same),
        1 => (1..=2_i64).prop_map(PartPick::TooMuch),
    ]
}

fn any_key() -> impl Strategy<Value = KeyPick> {
    prop_oneof![2 => which().prop_map(KeyPick::Usable), 1 => which().prop_map(KeyPick::Any)]
}

fn operation_key() -> impl Strategy<Value = KeyPick> {
    prop_oneof![
        24 => which().prop_map(KeyPick::Usable),
        3 => which().prop_map(KeyPick::Any),
        1 => Just(KeyPick::Foreign),
    ]
}

fn key_action() -> impl Strategy<Value = KeyAction> {
    let periods = vec![SpendPeriod::Day, SpendPeriod::Month, SpendPeriod::Total];
    let limit = (1..=60_i64, prop::sample::select(periods))
        .prop_map(|(amount, period)| SpendLimit { amount: units(amount), period });
    prop_oneof![
        6 => prop::option::weighted(0.7, limit).prop_map(KeyAction::Limit),
        3 => prop::bool::weighted(0.7).prop_map(KeyAction::Enable),
        2 => prop::bool::weighted(0.7).prop_map(KeyAction::Allow),
        1 => Just(KeyAction::Revoke),
        2 => any::<bool>().prop_map(|grace| KeyAction::Rotate { grace }),
        2 => Just(KeyAction::Create),
    ]
}

/// Generates a batch of mixed operations of one or both accounts, or a batch of purchases only. The
/// ledger uses a faster path for an account if all of its operations in the batch are accepted
/// purchases.
fn batch() -> impl Strategy<Value = Transition> {
    let mixed = (prop::option::of(account()), prop::collection::vec(planned_operation(), 1..=6));
    let mixed = mixed.prop_map(|(account, mut planned)| {
        for operation in &mut planned {
            operation.account = account.unwrap_or(operation.account);
        }
        planned
    });
    let plain =
        (account(), which(), 1..=15_i64, keyed()).prop_map(|(account, key, amount, keyed)| {
            let kind = OperationKind::Purchase { sum: AmountPick::Units(amount), keyed };
            PlannedOperation { account, key: KeyPick::Usable(key), kind }
        });
    let plain = prop::collection::vec(plain, 2..=6);
    let planned = prop_oneof![3 => mixed, 1 => plain];
    (planned, prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(
        |(planned, wait, first_is_lost)| Transition::Batch { planned, wait, first_is_lost },
    )
}

fn planned_operation() -> impl Strategy<Value = PlannedOperation> {
    (account(), operation_key(), operation_kind())
        .prop_map(|(account, key, kind)| PlannedOperation { account, key, kind })
}

fn operation_kind() -> impl Strategy<Value = OperationKind> {
    let seconds = prop::sample::select(vec![1, 30, 900, 90_000, 604_800_i32]);
    prop_oneof![
        5 => (sum(), keyed()).prop_map(|(sum, keyed)| OperationKind::Purchase { sum, keyed }),
        4 => (sum(), seconds, keyed())
            .prop_map(|(sum, seconds, keyed)| OperationKind::Hold { sum, seconds, keyed }),
        4 => (hold(), part()).prop_map(|(hold, part)| OperationKind::Capture { hold, part }),
        2 => hold().prop_map(|hold| OperationKind::Void { hold }),
    ]
}

fn hold() -> impl Strategy<Value = HoldPick> {
    prop_oneof![
        6 => which().prop_map(HoldPick::Open),
        4 => which().prop_map(HoldPick::Any),
        1 => which().prop_map(HoldPick::Foreign),
    ]
}

fn sum() -> impl Strategy<Value = AmountPick> {
    prop_oneof![
        8 => (1..=60_i64).prop_map(AmountPick::Units),
        1 => (0..=1_i64).prop_map(AmountPick::Available),
        2 => (0..=1_i64).prop_map(AmountPick::Left),
    ]
}

fn keyed() -> impl Strategy<Value = Option<KeyedBody>> {
    let keyed = (0..8_i64, prop::bool::weighted(0.2));
    let keyed = keyed.prop_map(|(number, other_body)| KeyedBody { number, other_body });
    prop::option::weighted(0.3, keyed)
}
