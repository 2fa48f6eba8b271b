//! What was wanted, what was sent for it, and what was told.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use crate::harness::Call;

/// Something that is wanted once, however often it is sent.
pub struct Order {
    pub kind: Kind,
    /// The number of the account.
    pub account: usize,
    /// Minor units.
    pub amount: i64,
    /// No other order has it. It is in the body, and so in the database.
    pub reference: String,
    pub idempotency_key: Option<String>,
    pub sent: Vec<Sent>,
    /// Of a hold that was made.
    pub closing: Option<Closing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Purchase,
    Hold,
    Credit,
}

/// The end of a hold.
pub struct Closing {
    /// Minor units; `None`: it was to be voided.
    pub captured: Option<i64>,
    pub sent: Vec<Sent>,
}

/// A request, one of those for the same.
pub struct Sent {
    pub begun: Instant,
    pub ended: Instant,
    pub told: Told,
    pub replayed: bool,
    pub body: Vec<u8>,
}

/// What an answer says. Amounts are minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// The purchase, the credit or the hold that was made; the balance after it, if that is told.
    Done {
        id: Uuid,
        amount: i64,
        balance_after: Option<i64>,
    },
    Declined {
        required: i64,
        available: i64,
    },
    /// A hold could not be closed any more.
    Expired,
    /// There was no answer, or one that says that it is not known.
    Nothing,
    /// An answer that must not be. It is a violation by itself.
    Wrong,
}

/// What happened, so that it is seen that it did.
#[derive(Default, Debug)]
pub struct Tally {
    pub requests: usize,
    /// Those of them after which it was not known what became of them.
    pub unknown: usize,
    pub replayed: usize,
    /// Purchases without a hold.
    pub accepted: usize,
    /// Purchases and holds.
    pub declined: usize,
    pub captured: usize,
    pub voided: usize,
    pub credits: usize,
}

impl Order {
    /// The request for it, without a key.
    pub fn call(&self, path: &str) -> Call {
        let body = json!({"amount": decimal(self.amount), "reference": self.reference});
        let call = Call::new("POST", path).json(body);
        match &self.idempotency_key {
            Some(key) => call.idempotency_key(key),
            None => call,
        }
    }
}

impl Kind {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Hold => "hold",
            Self::Credit => "credit",
        }
    }
}

impl Tally {
    pub fn count(&mut self, order: &Order) {
        let closing = order.closing.iter().flat_map(|closing| &closing.sent);
        for sent in order.sent.iter().chain(closing) {
            self.requests += 1;
            self.unknown += usize::from(sent.told == Told::Nothing);
            self.replayed += usize::from(sent.replayed);
        }
        match (order.kind, told(&order.sent)) {
            (Kind::Credit, _) => self.credits += 1,
            (Kind::Purchase, Told::Done { .. }) => self.accepted += 1,
            (_, Told::Declined { .. }) => self.declined += 1,
            _ => {}
        }
        match &order.closing {
            Some(Closing { captured: Some(_), .. }) => self.captured += 1,
            Some(Closing { captured: None, .. }) => self.voided += 1,
            None => {}
        }
    }
}

/// The first answer to requests for the same.
pub fn told(sent: &[Sent]) -> Told {
    let mut answers = sent.iter().map(|sent| sent.told);
    answers.find(|told| *told != Told::Nothing).unwrap_or(Told::Nothing)
}

/// From when the first of them was begun until there was an answer: what was asked for was decided
/// between these.
pub fn span(sent: &[Sent]) -> Option<(Instant, Instant)> {
    let answered = sent.iter().find(|sent| sent.told != Told::Nothing)?;
    Some((sent.first()?.begun, answered.ended))
}

/// Minor units as the service writes them: with all the decimals of the currency.
pub fn decimal(minor_units: i64) -> String {
    format!("{}.{:06}", minor_units / 1_000_000, minor_units % 1_000_000)
}

pub fn minor_units(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().expect("an amount")
}
