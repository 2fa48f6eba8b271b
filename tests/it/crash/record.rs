//! Records the orders of clients, the requests that they sent, and the outcomes that they received.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use crate::harness::Call;

/// An operation that must take effect once, even if the client sends the request several times.
pub struct Order {
    pub kind: Kind,
    /// The index of the account.
    pub account: usize,
    /// The amount in minor units.
    pub amount: i64,
    /// A text that is unique to the order. The request body contains it, so the database stores it.
    pub reference: String,
    pub idempotency_key: Option<String>,
    pub attempts: Vec<Attempt>,
    /// The request that closes the hold. `None` unless the hold was created.
    pub closing: Option<Closing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Purchase,
    Hold,
    Credit,
}

/// A request that captures or voids a hold, with all of its attempts.
pub struct Closing {
    /// The amount to capture, in minor units. `None` voids the hold.
    pub captured: Option<i64>,
    pub attempts: Vec<Attempt>,
}

/// One HTTP request for an order, with its outcome.
pub struct Attempt {
    pub begun: Instant,
    pub ended: Instant,
    pub outcome: Outcome,
    pub replayed: bool,
    pub body: Vec<u8>,
}

/// The outcome of a request, as its response reports it. Amounts are in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The service recorded the purchase, the credit or the hold. The balance is present if the
    /// response contains it.
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
    /// The client received no response, or a 503.
    Unknown,
    /// An unexpected response, which is a violation.
    Unexpected,
}

/// Counts of events, to check that the test exercised each kind.
#[derive(Default, Debug)]
pub struct Tally {
    pub requests: usize,
    /// Requests with an unknown outcome.
    pub unknown: usize,
    pub replayed: usize,
    /// Purchases that did not capture a hold.
    pub accepted: usize,
    /// Purchases and holds that the service declined.
    pub declined: usize,
    pub captured: usize,
    pub voided: usize,
    pub credits: usize,
}

impl Order {
    /// Builds the request of the order, without an API key.
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
    /// Returns the name of the kind in the database.
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

/// Returns the first known outcome of the attempts.
pub fn first_outcome(attempts: &[Attempt]) -> Outcome {
    let mut outcomes = attempts.iter().map(|attempt| attempt.outcome);
    outcomes.find(|outcome| *outcome != Outcome::Unknown).unwrap_or(Outcome::Unknown)
}

/// Returns when the first attempt began and when the first known outcome arrived. The service
/// decided the order between these two times.
pub fn decision_span(attempts: &[Attempt]) -> Option<(Instant, Instant)> {
    let answered = attempts.iter().find(|attempt| attempt.outcome != Outcome::Unknown)?;
    Some((attempts.first()?.begun, answered.ended))
}

/// Formats an amount like the service, with all decimals of the currency.
pub fn decimal(minor_units: i64) -> String {
    format!("{}.{:06}", minor_units / 1_000_000, minor_units % 1_000_000)
}

pub fn minor_units(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().expect("the amount is a number")
}
