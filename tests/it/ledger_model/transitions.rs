//! What may happen to a ledger.

use proptest::prelude::*;
use tollgate::domain::{
    idempotency::IdempotencyKey,
    spend_limit::{SpendLimit, SpendPeriod},
};

use super::{keys::KeyAct, model::units};

pub const ACCOUNTS: usize = 2;

/// Something that may happen. Which hold that is, which key, and how much more than there is, is
/// found when it happens: so a sequence stays one when parts of it are left out.
#[derive(Clone, Debug)]
pub enum Transition {
    Pass(Pass),
    /// By seconds.
    SetBack(i64),
    /// What is due is released, whoever's it is.
    Sweep,
    Credit {
        account: usize,
        amount: i64,
        again: Option<Again>,
    },
    Refund {
        account: usize,
        purchase: usize,
        part: Part,
        again: Option<Again>,
    },
    Key {
        account: usize,
        key: KeyPick,
        act: KeyAct,
    },
    Suspend {
        account: usize,
        suspended: bool,
    },
    /// A new batch. Its first attempt may be lost on the way, or late.
    Batch {
        asks: Vec<Ask>,
        wait: bool,
        first_is_lost: bool,
    },
    SentAgain(usize),
    /// An attempt of a batch comes after a later one: the first, or that one once more.
    Late {
        batch: usize,
        is_first: bool,
    },
}

/// How time goes on.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    Micros(i64),
    /// To the moment at which an open hold expires, or a little before.
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

/// A request that came before comes once more.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    pub which: usize,
    pub other_body: bool,
}

#[derive(Clone, Debug)]
pub struct Ask {
    pub account: usize,
    pub key: KeyPick,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub enum KeyPick {
    /// One that passes, if there is one.
    Usable(usize),
    Any(usize),
    /// One of the other account.
    Foreign,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Purchase { sum: Sum, keyed: Option<Keyed> },
    Hold { sum: Sum, seconds: i32, keyed: Option<Keyed> },
    Capture { hold: HoldPick, part: Part },
    Void { hold: HoldPick },
}

/// The newest is 0.
#[derive(Clone, Copy, Debug)]
pub enum HoldPick {
    Open(usize),
    /// Any that was ever asked for, also one that was not made.
    Any(usize),
    /// One of the other account.
    Foreign(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Sum {
    Units(i64),
    /// So many more than are available.
    Available(i64),
    /// So many more than are left of the key's limit.
    Left(i64),
}

/// An idempotency key, and a body that goes with it or another one.
#[derive(Clone, Copy, Debug)]
pub struct Keyed {
    pub number: i64,
    pub other_body: bool,
}

/// How much of a hold or a purchase.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// No amount is given.
    All,
    /// As much as it was.
    Whole,
    Units(i64),
    /// As much as was captured, or as can be refunded.
    Same,
    TooMuch(i64),
}

impl Keyed {
    pub fn key(self) -> IdempotencyKey {
        let text = format!("key-{}", self.number);
        IdempotencyKey::parse(&text).expect("an idempotency key")
    }
}

pub fn transition() -> impl Strategy<Value = Transition> {
    prop_oneof![
        14 => batch(),
        4 => pass().prop_map(Transition::Pass),
        1 => other(),
        3 => credit(),
        2 => refund(),
        4 => (account(), any_key(), key_act())
            .prop_map(|(account, key, act)| Transition::Key { account, key, act }),
        2 => which().prop_map(Transition::SentAgain),
        1 => (which(), any::<bool>())
            .prop_map(|(batch, is_first)| Transition::Late { batch, is_first }),
    ]
}

fn account() -> impl Strategy<Value = usize> {
    0..ACCOUNTS
}

fn which() -> impl Strategy<Value = usize> {
    0..6_usize
}

/// None of a time, or a microsecond before it.
fn before() -> impl Strategy<Value = i64> {
    0..=1_i64
}

fn pass() -> impl Strategy<Value = Pass> {
    let (second, hour) = (1_000_000, 3_600_000_000);
    prop_oneof![
        2 => (1..=60_i64).prop_map(move |seconds| Pass::Micros(seconds * second)),
        1 => (1..=30_i64).prop_map(move |hours| Pass::Micros(hours * hour)),
        1 => (1..=20_i64).prop_map(move |days| Pass::Micros(days * 24 * hour)),
        3 => (which(), before()).prop_map(|(hold, before)| Pass::ToExpiry { hold, before }),
        2 => before().prop_map(|before| Pass::ToNextDay { before }),
        1 => before().prop_map(|before| Pass::ToNextMonth { before }),
    ]
}

fn other() -> impl Strategy<Value = Transition> {
    prop_oneof![
        2 => Just(Transition::Sweep),
        1 => (1..=30_i64).prop_map(Transition::SetBack),
        2 => (account(), prop::bool::weighted(0.4))
            .prop_map(|(account, suspended)| Transition::Suspend { account, suspended }),
    ]
}

fn again() -> impl Strategy<Value = Option<Again>> {
    let again = (which(), prop::bool::weighted(0.3));
    prop::option::weighted(0.3, again.prop_map(|(which, other_body)| Again { which, other_body }))
}

fn credit() -> impl Strategy<Value = Transition> {
    (account(), 1..=100_i64, again()).prop_map(|(account, amount, again)| Transition::Credit {
        account,
        amount,
        again,
    })
}

fn refund() -> impl Strategy<Value = Transition> {
    (account(), which(), part(), again()).prop_map(|(account, purchase, part, again)| {
        Transition::Refund { account, purchase, part, again }
    })
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        2 => Just(Part::All),
        1 => Just(Part::Whole),
        3 => (1..=30_i64).prop_map(Part::Units),
        1 => Just(Part::Same),
        1 => (1..=2_i64).prop_map(Part::TooMuch),
    ]
}

fn any_key() -> impl Strategy<Value = KeyPick> {
    prop_oneof![2 => which().prop_map(KeyPick::Usable), 1 => which().prop_map(KeyPick::Any)]
}

fn asking_key() -> impl Strategy<Value = KeyPick> {
    prop_oneof![
        24 => which().prop_map(KeyPick::Usable),
        3 => which().prop_map(KeyPick::Any),
        1 => Just(KeyPick::Foreign),
    ]
}

fn key_act() -> impl Strategy<Value = KeyAct> {
    let periods = vec![SpendPeriod::Day, SpendPeriod::Month, SpendPeriod::Total];
    let limit = (1..=60_i64, prop::sample::select(periods))
        .prop_map(|(amount, period)| SpendLimit { amount: units(amount), period });
    prop_oneof![
        6 => prop::option::weighted(0.7, limit).prop_map(KeyAct::Limit),
        3 => prop::bool::weighted(0.7).prop_map(KeyAct::Enable),
        2 => prop::bool::weighted(0.7).prop_map(KeyAct::Allow),
        1 => Just(KeyAct::Revoke),
        2 => any::<bool>().prop_map(|grace| KeyAct::Rotate { grace }),
        2 => Just(KeyAct::Create),
    ]
}

/// One operation or several, of one account or of both; or purchases alone, which are done
/// another way where all of an account's pass.
fn batch() -> impl Strategy<Value = Transition> {
    let mixed = (prop::option::of(account()), prop::collection::vec(ask(), 1..=6));
    let mixed = mixed.prop_map(|(account, mut asks)| {
        for ask in &mut asks {
            ask.account = account.unwrap_or(ask.account);
        }
        asks
    });
    let plain =
        (account(), which(), 1..=15_i64, keyed()).prop_map(|(account, key, amount, keyed)| {
            let what = What::Purchase { sum: Sum::Units(amount), keyed };
            Ask { account, key: KeyPick::Usable(key), what }
        });
    let plain = prop::collection::vec(plain, 2..=6);
    let asks = prop_oneof![3 => mixed, 1 => plain];
    (asks, prop::bool::weighted(0.2), prop::bool::weighted(0.1))
        .prop_map(|(asks, wait, first_is_lost)| Transition::Batch { asks, wait, first_is_lost })
}

fn ask() -> impl Strategy<Value = Ask> {
    (account(), asking_key(), what()).prop_map(|(account, key, what)| Ask { account, key, what })
}

fn what() -> impl Strategy<Value = What> {
    let seconds = prop::sample::select(vec![1, 30, 900, 90_000, 604_800_i32]);
    prop_oneof![
        5 => (sum(), keyed()).prop_map(|(sum, keyed)| What::Purchase { sum, keyed }),
        4 => (sum(), seconds, keyed())
            .prop_map(|(sum, seconds, keyed)| What::Hold { sum, seconds, keyed }),
        4 => (hold(), part()).prop_map(|(hold, part)| What::Capture { hold, part }),
        2 => hold().prop_map(|hold| What::Void { hold }),
    ]
}

fn hold() -> impl Strategy<Value = HoldPick> {
    prop_oneof![
        6 => which().prop_map(HoldPick::Open),
        4 => which().prop_map(HoldPick::Any),
        1 => which().prop_map(HoldPick::Foreign),
    ]
}

fn sum() -> impl Strategy<Value = Sum> {
    prop_oneof![
        8 => (1..=60_i64).prop_map(Sum::Units),
        1 => (0..=1_i64).prop_map(Sum::Available),
        2 => (0..=1_i64).prop_map(Sum::Left),
    ]
}

fn keyed() -> impl Strategy<Value = Option<Keyed>> {
    let keyed = (0..8_i64, prop::bool::weighted(0.2));
    let keyed = keyed.prop_map(|(number, other_body)| Keyed { number, other_body });
    prop::option::weighted(0.3, keyed)
}
