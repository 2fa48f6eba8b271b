//! What clients wanted, the requests that they sent for it, and the outcomes that they received.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use crate::harness::Call;

/// An operation that a client wants once, however often it sends the request.
pub struct Order {
    pub kind: Kind,
    /// The number of the account.
    pub account: usize,
    /// Minor units.
    pub amount: i64,
    /// Unique for each order. It is in the request body, and so in the database.
    pub reference: String,
    pub idempotency_key: Option<String>,
    pub attempts: Vec<Attempt>,
    /// Only for a hold that was created.
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
    /// The amount to capture, in minor units; `None` to void the hold.
    pub captured: Option<i64>,
    pub attempts: Vec<Attempt>,
}

/// One request for an order.
pub struct Attempt {
    pub begun: Instant,
    pub ended: Instant,
    pub outcome: Outcome,
    pub replayed: bool,
    pub body: Vec<u8>,
}

/// What a response says. Amounts are minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The purchase, the credit or the hold, and the balance after it if the response has one.
    Done {
        id: Uuid,
        amount: i64,
        balance_after: Option<i64>,
    },
    Declined {
        required: i64,
        available: i64,
    },
    /// The hold had expired and could not be closed.
    Expired,
    /// There was no response, or a 503.
    Unknown,
    /// A response that must not occur. It is a violation by itself.
    Unexpected,
}

/// Counts of what happened, to check that the test exercised it.
#[derive(Default, Debug)]
pub struct Tally {
    pub requests: usize,
    /// Requests whose outcome was unknown.
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
    /// The request for the order, without a key.
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
    /// The name in the database.
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
        let closing = order.closing.iter().flat_map(|closing| &closing.attempts);
        for attempt in order.attempts.iter().chain(closing) {
            self.requests += 1;
            self.unknown += usize::from(attempt.outcome == Outcome::Unknown);
            self.replayed += usize::from(attempt.replayed);
        }
        match (order.kind, first_outcome(&order.attempts)) {
            (Kind::Credit, _) => self.credits += 1,
            (Kind::Purchase, Outcome::Done { .. }) => self.accepted += 1,
            (_, Outcome::Declined { .. }) => self.declined += 1,
            _ => {}
        }
        match &order.closing {
            Some(Closing { captured: Some(_), .. }) => self.captured += 1,
            Some(Closing { captured: None, .. }) => self.voided += 1,
            None => {}
        }
    }
}

/// The first known outcome of the attempts.
pub fn first_outcome(attempts: &[Attempt]) -> Outcome {
    let mut outcomes = attempts.iter().map(|attempt| attempt.outcome);
    outcomes.find(|outcome| *outcome != Outcome::Unknown).unwrap_or(Outcome::Unknown)
}

/// The time from the start of the first attempt to the first known outcome. The service decided the
/// order within it.
pub fn decision_span(attempts: &[Attempt]) -> Option<(Instant, Instant)> {
    let answered = attempts.iter().find(|attempt| attempt.outcome != Outcome::Unknown)?;
    Some((attempts.first()?.begun, answered.ended))
}

/// An amount as the service writes it, with all decimals of the currency.
pub fn decimal(minor_units: i64) -> String {
    format!("{}.{:06}", minor_units / 1_000_000, minor_units % 1_000_000)
}

pub fn minor_units(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().expect("an amount")
}
