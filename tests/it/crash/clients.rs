//! The clients make purchases and holds, and a tenant tops up the accounts. Each client retries its
//! request until it knows the outcome, and sometimes disconnects early.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tollgate::domain::id::{CreditId, HoldId, PurchaseId};
use uuid::Uuid;

use super::{
    record::{Attempt, Closing, Kind, Order, Outcome, decimal, first_outcome, minor_units},
    world::{ACCOUNTS, World},
};
use crate::harness::{Answer, Call, PATIENCE};

/// The largest amount of a purchase, in minor units.
const MAX_AMOUNT: i64 = 50;

/// How often the tenant tops up the accounts.
const TOP_UP_INTERVAL: Duration = Duration::from_millis(100);

/// The percentage of the requested amounts that an account gets as credit. The service declines
/// requests that exceed the balance.
const TOP_UP_PERCENT: i64 = 70;

/// The maximum time between a request and an early disconnect, in microseconds.
const MAX_DISCONNECT_MICROS: u64 = 2000;

/// How long a client waits after a 503.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Parses the outcome from a response. Returns `None` for an unexpected response.
type ReadOutcome = fn(&Answer) -> Option<Outcome>;

/// A request that a client may send several times.
struct ClientRequest<'a> {
    /// The API keys of the account. Each attempt uses one of them.
    keys: &'a [String],
    call: Call,
    read: ReadOutcome,
}

impl World {
    /// Runs a client that sends one order after another until the test finishes.
    pub async fn run_client(self: Arc<Self>) {
        let mut random = self.random();
        while !self.is_finished() {
            // Half of the orders go to the first account.
            let is_hot = random.random_ratio(1, 2);
            let account = if is_hot { 0 } else { random.random_range(1..ACCOUNTS) };
            let amount = random.random_range(1..=MAX_AMOUNT);
            self.accounts[account].requested.fetch_add(amount, Ordering::Relaxed);
            let order = if random.random_ratio(1, 10) {
                self.reserve(account, amount, &mut random).await
            } else {
                self.buy(account, amount, &mut random).await
            };
            self.record(order);
            self.orders_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tops up the accounts until the test finishes. Credits every account with less than its
    /// clients requested.
    pub async fn run_top_ups(self: Arc<Self>) {
        let mut random = self.random();
        let mut ticks = interval(TOP_UP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_finished() {
            ticks.tick().await;
            for (number, account) in self.accounts.iter().enumerate() {
                let requested = account.requested.swap(0, Ordering::Relaxed);
                if requested > 0 {
                    let amount = (requested * TOP_UP_PERCENT / 100).max(1);
                    self.credit(number, amount, &mut random).await;
                }
            }
        }
    }

    pub async fn credit(&self, account: usize, amount: i64, random: &mut StdRng) {
        let mut order = self.order(Kind::Credit, account, amount, true);
        let path = format!("/v1/accounts/{}/credits", self.accounts[account].name);
        let keys = std::slice::from_ref(&self.admin_key);
        let request = ClientRequest { keys, call: order.call(&path), read: read_credit };
        order.attempts = self.send_until_decided(&request, random).await;
        self.record(order);
    }

    async fn buy(&self, account: usize, amount: i64, random: &mut StdRng) -> Order {
        let is_keyed = random.random_ratio(3, 4);
        let mut order = self.order(Kind::Purchase, account, amount, is_keyed);
        let keys = &self.accounts[account].keys;
        let request =
            ClientRequest { keys, call: order.call("/v1/purchases"), read: read_purchase };
        order.attempts = if is_keyed {
            self.send_until_decided(&request, random).await
        } else {
            // Without an idempotency key, a second request would make another purchase.
            vec![self.send(&request, random).await]
        };
        order
    }

    async fn reserve(&self, account: usize, amount: i64, random: &mut StdRng) -> Order {
        let mut order = self.order(Kind::Hold, account, amount, true);
        let keys = &self.accounts[account].keys;
        let request = ClientRequest { keys, call: order.call("/v1/holds"), read: read_hold };
        order.attempts = self.send_until_decided(&request, random).await;
        if let Outcome::Done { id, .. } = first_outcome(&order.attempts) {
            order.closing = Some(self.close(account, id, amount, random).await);
        }
        order
    }

    /// Captures a hold in full or in part, or voids it.
    async fn close(&self, account: usize, id: Uuid, amount: i64, random: &mut StdRng) -> Closing {
        let path = |action: &str| format!("/v1/holds/{}/{action}", HoldId::from_uuid(id));
        let captured = match random.random_range(0..3) {
            0 => None,
            1 => Some(amount),
            _ => Some(random.random_range(1..=amount)),
        };
        let (path, body) = match captured {
            None => (path("void"), json!({})),
            Some(whole) if whole == amount => (path("capture"), json!({})),
            Some(part) => (path("capture"), json!({"amount": decimal(part)})),
        };
        let read: ReadOutcome = if captured.is_some() { read_capture } else { read_void };
        let keys = &self.accounts[account].keys;
        let request = ClientRequest { keys, call: Call::new("POST", &path).json(body), read };
        Closing { captured, attempts: self.send_until_decided(&request, random).await }
    }

    fn order(&self, kind: Kind, account: usize, amount: i64, is_keyed: bool) -> Order {
        let number = self.orders_begun.fetch_add(1, Ordering::Relaxed);
        Order {
            kind,
            account,
            amount,
            reference: format!("r-{number}"),
            idempotency_key: is_keyed.then(|| format!("k-{number}")),
            attempts: Vec::new(),
            closing: None,
        }
    }

    /// Sends the request until its outcome is known, and sometimes once more.
    async fn send_until_decided(
        &self,
        request: &ClientRequest<'_>,
        random: &mut StdRng,
    ) -> Vec<Attempt> {
        let deadline = Instant::now() + PATIENCE;
        let mut attempts = Vec::new();
        while first_outcome(&attempts) == Outcome::Unknown {
            assert!(Instant::now() < deadline, "no outcome for {:?}", request.call);
            attempts.push(self.send(request, random).await);
        }
        if random.random_ratio(1, 5) {
            attempts.push(self.send(request, random).await);
        }
        attempts
    }

    /// Sends the request once, to a random node.
    async fn send(&self, request: &ClientRequest<'_>, random: &mut StdRng) -> Attempt {
        let key = &request.keys[random.random_range(0..request.keys.len())];
        let node = self.random_live_node(random);
        let disconnects = random.random_ratio(1, 20);
        let patience = if disconnects {
            Duration::from_micros(random.random_range(0..MAX_DISCONNECT_MICROS))
        } else {
            PATIENCE
        };
        let begun = Instant::now();
        let answer = timeout(patience, self.exchange(node, request.call.clone().bearer(key))).await;
        let ended = Instant::now();
        assert!(
            disconnects || answer.is_ok(),
            "node {node} does not respond to {:?}",
            request.call
        );
        let mut attempt =
            Attempt { begun, ended, outcome: Outcome::Unknown, replayed: false, body: Vec::new() };
        match answer.ok().flatten() {
            None => {}
            // Retries without a pause would slow down the recovery of the service.
            Some(answer) if answer.status == 503 => sleep(RETRY_DELAY).await,
            Some(answer) => {
                attempt.outcome = (request.read)(&answer).unwrap_or_else(|| {
                    self.report_violation(format!(
                        "unexpected response to {:?}: {answer:?}",
                        request.call
                    ));
                    Outcome::Unexpected
                });
                attempt.replayed = answer.header("idempotent-replayed") == Some("true");
                attempt.body = answer.body;
            }
        }
        attempt
    }
}

fn read_purchase(answer: &Answer) -> Option<Outcome> {
    match answer.status {
        201 => Some(Outcome::Done {
            id: answer.text("/id").parse::<PurchaseId>().expect("the id is valid").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: Some(minor_units(answer.text("/balance_after"))),
        }),
        _ => read_decline(answer),
    }
}

fn read_credit(answer: &Answer) -> Option<Outcome> {
    (answer.status == 201).then(|| Outcome::Done {
        id: answer.text("/id").parse::<CreditId>().expect("the id is valid").uuid(),
        amount: minor_units(answer.text("/amount")),
        balance_after: Some(minor_units(answer.text("/balance_after"))),
    })
}

fn read_hold(answer: &Answer) -> Option<Outcome> {
    match answer.status {
        201 => Some(Outcome::Done {
            id: answer.text("/id").parse::<HoldId>().expect("the id is valid").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: None,
        }),
        _ => read_decline(answer),
    }
}

fn read_capture(answer: &Answer) -> Option<Outcome> {
    match answer.status {
        200 => Some(Outcome::Done {
            id: answer.text("/purchase_id").parse::<PurchaseId>().expect("the id is valid").uuid(),
            amount: minor_units(answer.text("/captured")),
            balance_after: None,
        }),
        _ => read_expiry(answer),
    }
}

fn read_void(answer: &Answer) -> Option<Outcome> {
    match answer.status {
        200 => Some(Outcome::Done {
            id: answer.text("/id").parse::<HoldId>().expect("the id is valid").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: None,
        }),
        _ => read_expiry(answer),
    }
}

fn read_decline(answer: &Answer) -> Option<Outcome> {
    (answer.code() == "insufficient_balance").then(|| Outcome::Declined {
        required: minor_units(answer.text("/required")),
        available: minor_units(answer.text("/available")),
    })
}

fn read_expiry(answer: &Answer) -> Option<Outcome> {
    let is_expired = answer.code() == "hold_not_open" && answer.json["hold_status"] == "expired";
    is_expired.then_some(Outcome::Expired)
}
