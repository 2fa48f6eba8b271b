//! Compares the shares of several nodes with a model of the database, on random sequences of calls,
//! statements, lost answers, recalls, changed limits and time.

use std::{sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::TestCaseError};
use uuid::Uuid;

use super::{cell::Take, share::Share};
use crate::{
    domain::{id::TenantId, rate_limit::RateLimit},
    store::{LimitRow, ShareAnswer, ShareAsk},
};

const NODES: usize = 3;

/// The length of a window in seconds.
const WINDOW: u64 = 64;

/// One step of a sequence. `node` is the number of a node.
#[derive(Clone, Debug)]
enum Step {
    /// A request with this cost on a node that knows the current settings.
    Call { node: usize, cost: u32 },
    /// A request with this cost waits for a share.
    Request { node: usize, cost: u32 },
    /// A node sends a statement.
    Send { node: usize },
    /// A node gets the oldest of its answers.
    Receive { node: usize },
    /// The oldest answer to a node is lost.
    Lose { node: usize },
    /// Other nodes recall the share of a node.
    Recall { node: usize },
    /// A request takes a call, and puts it back later, because another limit refuses it.
    TakeAndPutBack { node: usize },
    /// The limit changes.
    Change { calls: u32 },
    /// Time passes, in seconds.
    Wait { seconds: u64 },
    /// The clock of the database is set back, in seconds.
    SetBack { seconds: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = || 0..NODES;
    let step = prop_oneof![
        8 => (node(), 1..4_u32).prop_map(|(node, cost)| Step::Call { node, cost }),
        4 => (node(), 1..4_u32).prop_map(|(node, cost)| Step::Request { node, cost }),
        6 => node().prop_map(|node| Step::Send { node }),
        6 => node().prop_map(|node| Step::Receive { node }),
        1 => node().prop_map(|node| Step::Lose { node }),
        2 => node().prop_map(|node| Step::Recall { node }),
        2 => node().prop_map(|node| Step::TakeAndPutBack { node }),
        1 => (1..40_u32).prop_map(|calls| Step::Change { calls }),
        1 => (1..WINDOW).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1..WINDOW).prop_map(|seconds| Step::SetBack { seconds }),
    ];
    prop::collection::vec(step, 1..200)
}

/// The row of the limit, as the SQL functions change it, and the calls that have passed.
struct Database {
    /// The clock of the database minus the time since boot, in seconds.
    offset: i64,
    limit: RateLimit,
    generation: i64,
    number: i64,
    began: i64,
    given: u32,
    spent: i64,
    /// The calls that have passed in the window of the row.
    passed: u32,
    /// The largest limit that was in force in the window.
    largest: u32,
}

struct Node {
    share: Arc<Share>,
    /// The statements that are under way: the ask, the time when it was sent, and the answer.
    answers: Vec<(ShareAsk, Duration, ShareAnswer)>,
}

struct World {
    /// The time since boot.
    now: Duration,
    database: Database,
    nodes: Vec<Node>,
    /// Whether calls can be missing, because an answer or a return was lost.
    has_lost: bool,
}

impl Database {
    fn clock(&self, now: Duration) -> i64 {
        i64::try_from(now.as_secs()).expect("a short time") + self.offset
    }

    /// Does what `share_rate_limits` does.
    fn share(&mut self, ask: &ShareAsk, now: Duration) -> ShareAnswer {
        let clock = self.clock(now);
        let answer = |number, share, given, spent, ends_in| ShareAnswer {
            account: ask.row.account,
            holder: ask.row.holder,
            name: ask.row.name.to_string(),
            number,
            share,
            given,
            spent,
            ends_in,
        };
        let is_stale = ask.least > 0 && ask.generation != self.generation;
        let only_reports = ask.least == 0 || is_stale;
        let seconds = i64::try_from(WINDOW).expect("a short time");
        let is_over = self.number == 0 || clock >= self.began + seconds;
        if is_over && !only_reports {
            (self.number, self.began, self.given, self.spent) = (self.number + 1, clock, 0, 0);
            (self.passed, self.largest) = (0, self.limit.calls.get());
        } else {
            self.began = self.began.min(clock);
            if ask.number == Some(self.number) {
                self.given = self.given.saturating_sub(ask.returned);
                self.spent += i64::from(ask.spent);
            }
        }
        let left = self.limit.calls.get().saturating_sub(self.given);
        let share = if only_reports || left < ask.least {
            0
        } else {
            ask.least.max(ask.wanted.max(left / 64).min(left / 8))
        };
        self.given += share;
        let spent = u32::try_from(self.spent.max(0)).expect("a small number");
        let ends_in = u64::try_from((self.began + seconds - clock).max(0)).expect("positive");
        answer((!is_stale).then_some(self.number), share, self.given, spent, ends_in * 1_000_000)
    }
}

impl World {
    fn new(calls: u32) -> Self {
        let row = LimitRow {
            tenant: TenantId::from_uuid(Uuid::nil()),
            account: Uuid::from_u128(1),
            holder: Uuid::from_u128(1),
            owner: Uuid::from_u128(1),
            name: "default".parse().expect("a name"),
        };
        let node = |_| Node { share: Arc::new(Share::new(row.clone())), answers: Vec::new() };
        Self {
            now: Duration::from_secs(1000),
            database: Database {
                offset: 0,
                limit: limit(calls),
                generation: 0,
                number: 0,
                began: 0,
                given: 0,
                spent: 0,
                passed: 0,
                largest: calls,
            },
            nodes: (0..NODES).map(node).collect(),
            has_lost: false,
        }
    }

    /// Whether the window of the row runs by the database's clock.
    fn runs(&self) -> bool {
        let clock = self.database.clock(self.now);
        clock < self.database.began + i64::try_from(WINDOW).expect("a short time")
    }

    /// Takes calls and checks that they may be spent, as the verifier does.
    fn call(&mut self, node: usize, cost: u32) -> Result<bool, TestCaseError> {
        let share = &self.nodes[node].share;
        let Take::Taken { slot, .. } = share.cell.take(self.database.generation, cost) else {
            return Ok(false);
        };
        if !share.cell.may_spend(slot, self.now) {
            share.put_back(slot, cost);
            return Ok(false);
        }
        prop_assert!(self.runs(), "a call was spent after its window");
        self.database.passed += cost;
        let (passed, largest) = (self.database.passed, self.database.largest);
        prop_assert!(passed <= largest, "{passed} of {largest} calls passed");
        Ok(true)
    }

    fn request(&self, node: usize, cost: u32) {
        let Database { limit, generation, .. } = &self.database;
        self.nodes[node].share.request(limit, *generation, Some(cost));
    }

    fn send(&mut self, node: usize) {
        if let Some(ask) = self.nodes[node].share.ask(self.now) {
            self.send_ask(node, ask);
        }
    }

    fn send_ask(&mut self, node: usize, ask: ShareAsk) {
        let answer = self.database.share(&ask, self.now);
        self.nodes[node].answers.push((ask, self.now, answer));
    }

    fn receive(&mut self, node: usize) {
        if !self.nodes[node].answers.is_empty() {
            let (ask, sent, answer) = self.nodes[node].answers.remove(0);
            self.nodes[node].share.apply(&ask, &answer, sent, self.now);
        }
    }

    fn recall(&mut self, node: usize) {
        if let Some(ask) = self.nodes[node].share.recall(self.now) {
            self.send_ask(node, ask);
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Call { node, cost } => {
                self.call(node, cost)?;
            }
            Step::Request { node, cost } => self.request(node, cost),
            Step::Send { node } => self.send(node),
            Step::Receive { node } => self.receive(node),
            Step::Lose { node } => {
                if !self.nodes[node].answers.is_empty() {
                    let (ask, ..) = self.nodes[node].answers.remove(0);
                    self.nodes[node].share.fail(&ask);
                    self.has_lost = true;
                }
            }
            Step::Recall { node } => self.recall(node),
            Step::TakeAndPutBack { node } => {
                let taken = self.nodes[node].share.cell.take(self.database.generation, 1);
                self.send(node);
                if let Take::Taken { slot, .. } = taken {
                    self.nodes[node].share.put_back(slot, 1);
                }
            }
            Step::Change { calls } => {
                self.database.limit = limit(calls);
                self.database.generation += 1;
                self.database.largest = self.database.largest.max(calls);
            }
            Step::Wait { seconds } => self.now += Duration::from_secs(seconds),
            Step::SetBack { seconds } => {
                self.database.offset -= i64::try_from(seconds).expect("a short time");
            }
        }
        Ok(())
    }

    /// Lets one node pass as many calls as it can. Meanwhile the other nodes return what they hold.
    fn use_up(&mut self) -> Result<(), TestCaseError> {
        for node in 0..NODES {
            while !self.nodes[node].answers.is_empty() {
                self.receive(node);
            }
        }
        let mut refusals = 0;
        while refusals < 3 {
            if self.call(0, 1)? {
                refusals = 0;
                continue;
            }
            for node in 1..NODES {
                self.request(node, 1);
                self.recall(node);
                self.receive(node);
            }
            self.request(0, 1);
            self.send(0);
            self.receive(0);
            refusals += 1;
        }
        Ok(())
    }
}

fn limit(calls: u32) -> RateLimit {
    format!("default={calls}/{WINDOW}").parse().expect("a limit")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// In every window, at most the largest limit of the window passes. Without lost messages, the
    /// whole limit passes.
    #[test]
    fn nodes_together_pass_at_most_the_limit_and_all_of_it_if_no_message_is_lost(
        calls in 1..40_u32,
        steps in steps(),
    ) {
        let mut world = World::new(calls);
        for step in &steps {
            world.take(step)?;
        }
        world.use_up()?;
        let Database { passed, limit, .. } = &world.database;
        if !world.has_lost {
            prop_assert!(*passed >= limit.calls.get(), "{passed} of {limit} passed");
        }
    }
}

#[test]
fn node_that_has_returned_its_calls_requests_none_in_advance_for_a_moment() {
    let mut world = World::new(6400);
    let request_and_receive = |world: &mut World| {
        world.request(0, 1);
        world.send(0);
        world.receive(0);
    };
    let is_low_after_half = |world: &World| {
        let share = &world.nodes[0].share;
        match share.cell.take(0, share.cell.unspent().div_ceil(2)) {
            Take::Taken { is_low, .. } => is_low,
            Take::TooFew => panic!("half of the share can be taken"),
        }
    };
    request_and_receive(&mut world);
    assert!(is_low_after_half(&world));

    world.recall(0);
    world.receive(0);
    request_and_receive(&mut world);
    assert!(!is_low_after_half(&world), "another node has just needed calls");
    world.request(0, 1);
    let ask = world.nodes[0].share.ask(world.now).expect("a request waits");
    assert_eq!(ask.wanted, 1, "only for the request that waits");
    world.send_ask(0, ask);
    world.receive(0);

    world.now += Duration::from_millis(250);
    request_and_receive(&mut world);
    assert!(is_low_after_half(&world), "the moment is over");

    world.nodes[0].share.request(&limit(6400), 0, None);
    world.recall(0);
    assert!(world.nodes[0].share.ask(world.now).is_none(), "the request in advance is dropped");
}
