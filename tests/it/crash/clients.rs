//! Those who ask: clients that buy and reserve, and the tenant that tops their accounts up. Each
//! repeats what it wants until it is told, and everyone hangs up now and then.

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
    record::{Closing, Kind, Order, Sent, Told, decimal, minor_units, told},
    world::{ACCOUNTS, World},
};
use crate::harness::{Answer, Call, PATIENCE};

/// Minor units of one purchase at the most.
const MOST: i64 = 50;

/// How often accounts are topped up.
const TOP_UP_EVERY: Duration = Duration::from_millis(100);

/// Percent of what was asked for that an account is topped up by: the rest is declined.
const TOP_UP: i64 = 70;

/// A client that hangs up does so within this time, in microseconds.
const HANGS_UP_WITHIN: u64 = 2000;

/// How long a client waits that was told to come again later.
const COME_AGAIN: Duration = Duration::from_millis(20);

/// What an answer says; `None`: it must not be.
type Read = fn(&Answer) -> Option<Told>;

/// A request that may be sent several times.
struct Ask<'a> {
    /// With any of these.
    keys: &'a [String],
    call: Call,
    read: Read,
}

impl World {
    /// A client: one order after the other, until all is over.
    pub async fn shop(self: Arc<Self>) {
        let mut random = self.random();
        while !self.is_finished() {
            // Half of all is asked of the first account.
            let is_hot = random.random_ratio(1, 2);
            let account = if is_hot { 0 } else { random.random_range(1..ACCOUNTS) };
            let amount = random.random_range(1..=MOST);
            self.accounts[account].asked.fetch_add(amount, Ordering::Relaxed);
            let order = if random.random_ratio(1, 10) {
                self.reserve(account, amount, &mut random).await
            } else {
                self.buy(account, amount, &mut random).await
            };
            self.keep(order);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The tenant: gives every account less than is asked of it, until all is over.
    pub async fn top_up(self: Arc<Self>) {
        let mut random = self.random();
        let mut turns = interval(TOP_UP_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_finished() {
            turns.tick().await;
            for (number, account) in self.accounts.iter().enumerate() {
                let asked = account.asked.swap(0, Ordering::Relaxed);
                if asked > 0 {
                    let amount = (asked * TOP_UP / 100).max(1);
                    self.credit(number, amount, &mut random).await;
                }
            }
        }
    }

    pub async fn credit(&self, account: usize, amount: i64, random: &mut StdRng) {
        let mut order = self.order(Kind::Credit, account, amount, true);
        let path = format!("/v1/accounts/{}/credits", self.accounts[account].name);
        let keys = std::slice::from_ref(&self.admin_key);
        let ask = Ask { keys, call: order.call(&path), read: credited };
        order.sent = self.insist(&ask, random).await;
        self.keep(order);
    }

    async fn buy(&self, account: usize, amount: i64, random: &mut StdRng) -> Order {
        let is_keyed = random.random_ratio(3, 4);
        let mut order = self.order(Kind::Purchase, account, amount, is_keyed);
        let keys = &self.accounts[account].keys;
        let ask = Ask { keys, call: order.call("/v1/purchases"), read: bought };
        order.sent = if is_keyed {
            self.insist(&ask, random).await
        } else {
            // Sent again it would be another one.
            vec![self.send(&ask, random).await]
        };
        order
    }

    async fn reserve(&self, account: usize, amount: i64, random: &mut StdRng) -> Order {
        let mut order = self.order(Kind::Hold, account, amount, true);
        let keys = &self.accounts[account].keys;
        let ask = Ask { keys, call: order.call("/v1/holds"), read: held };
        order.sent = self.insist(&ask, random).await;
        if let Told::Done { id, .. } = told(&order.sent) {
            order.closing = Some(self.close(account, id, amount, random).await);
        }
        order
    }

    /// Captures a hold, or a part of it, or voids it.
    async fn close(&self, account: usize, id: Uuid, amount: i64, random: &mut StdRng) -> Closing {
        let path = |what: &str| format!("/v1/holds/{}/{what}", HoldId::from_uuid(id));
        let captured = match random.random_range(0..3) {
            0 => None,
            1 => Some(amount),
            _ => Some(random.random_range(1..=amount)),
        };
        let (path, body) = match captured {
            None => (path("void"), json!({})),
            Some(all) if all == amount => (path("capture"), json!({})),
            Some(part) => (path("capture"), json!({"amount": decimal(part)})),
        };
        let read: Read = if captured.is_some() { captured_for } else { voided };
        let keys = &self.accounts[account].keys;
        let ask = Ask { keys, call: Call::new("POST", &path).json(body), read };
        Closing { captured, sent: self.insist(&ask, random).await }
    }

    fn order(&self, kind: Kind, account: usize, amount: i64, is_keyed: bool) -> Order {
        let number = self.orders_begun.fetch_add(1, Ordering::Relaxed);
        Order {
            kind,
            account,
            amount,
            reference: format!("r-{number}"),
            idempotency_key: is_keyed.then(|| format!("k-{number}")),
            sent: Vec::new(),
            closing: None,
        }
    }

    /// Sends it until there is an answer, and sometimes once more.
    async fn insist(&self, ask: &Ask<'_>, random: &mut StdRng) -> Vec<Sent> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while told(&all) == Told::Nothing {
            assert!(Instant::now() < deadline, "nothing is told of {:?}", ask.call);
            all.push(self.send(ask, random).await);
        }
        if random.random_ratio(1, 5) {
            all.push(self.send(ask, random).await);
        }
        all
    }

    /// Sends it once, to a node at random.
    async fn send(&self, ask: &Ask<'_>, random: &mut StdRng) -> Sent {
        let key = &ask.keys[random.random_range(0..ask.keys.len())];
        let node = self.a_node(random);
        let hangs_up = random.random_ratio(1, 20);
        let patience = if hangs_up {
            Duration::from_micros(random.random_range(0..HANGS_UP_WITHIN))
        } else {
            PATIENCE
        };
        let begun = Instant::now();
        let answer = timeout(patience, self.exchange(node, ask.call.clone().bearer(key))).await;
        let ended = Instant::now();
        assert!(hangs_up || answer.is_ok(), "node {node} does not answer {:?}", ask.call);
        let mut sent =
            Sent { begun, ended, told: Told::Nothing, replayed: false, body: Vec::new() };
        match answer.ok().flatten() {
            None => {}
            // Otherwise it would only keep the service from coming back.
            Some(answer) if answer.status == 503 => sleep(COME_AGAIN).await,
            Some(answer) => {
                sent.told = (ask.read)(&answer).unwrap_or_else(|| {
                    self.violation(format!("{:?} was answered with {answer:?}", ask.call));
                    Told::Wrong
                });
                sent.replayed = answer.header("idempotent-replayed") == Some("true");
                sent.body = answer.body;
            }
        }
        sent
    }
}

fn bought(answer: &Answer) -> Option<Told> {
    match answer.status {
        201 => Some(Told::Done {
            id: answer.text("/id").parse::<PurchaseId>().expect("an id").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: Some(minor_units(answer.text("/balance_after"))),
        }),
        _ => declined(answer),
    }
}

fn credited(answer: &Answer) -> Option<Told> {
    (answer.status == 201).then(|| Told::Done {
        id: answer.text("/id").parse::<CreditId>().expect("an id").uuid(),
        amount: minor_units(answer.text("/amount")),
        balance_after: Some(minor_units(answer.text("/balance_after"))),
    })
}

fn held(answer: &Answer) -> Option<Told> {
    match answer.status {
        201 => Some(Told::Done {
            id: answer.text("/id").parse::<HoldId>().expect("an id").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: None,
        }),
        _ => declined(answer),
    }
}

fn captured_for(answer: &Answer) -> Option<Told> {
    match answer.status {
        200 => Some(Told::Done {
            id: answer.text("/purchase_id").parse::<PurchaseId>().expect("an id").uuid(),
            amount: minor_units(answer.text("/captured")),
            balance_after: None,
        }),
        _ => expired(answer),
    }
}

fn voided(answer: &Answer) -> Option<Told> {
    match answer.status {
        200 => Some(Told::Done {
            id: answer.text("/id").parse::<HoldId>().expect("an id").uuid(),
            amount: minor_units(answer.text("/amount")),
            balance_after: None,
        }),
        _ => expired(answer),
    }
}

fn declined(answer: &Answer) -> Option<Told> {
    (answer.code() == "insufficient_balance").then(|| Told::Declined {
        required: minor_units(answer.text("/required")),
        available: minor_units(answer.text("/available")),
    })
}

fn expired(answer: &Answer) -> Option<Told> {
    let is_expired = answer.code() == "hold_not_open" && answer.json["hold_status"] == "expired";
    is_expired.then_some(Told::Expired)
}
