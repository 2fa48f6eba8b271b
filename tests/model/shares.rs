//! Shares of a rate limit on two nodes. The limit is lowered once, and one window ends. The nodes
//! use the real shares, and the real cache and lease in front of them.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use shuttle::{
    future::block_on,
    rand::{Rng as _, thread_rng},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use tollgate::{
    auth::{
        KeyLimits, KeyLookup, KeyVerifier as _, LeasedVerifier, Presented, Principal,
        PrincipalParts, Taken, Taking, Verdict, Waited,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        api_key::KeyText,
        id::{KeyId, TenantId},
        rate_limit::{Cost, LimitLevel, LimitState, RateLimit},
        scope::{Scope, ScopeSet},
        server::ServerId,
        tenant::Environment,
        timestamp::Timestamp,
    },
    limits::{CurrentShare, Limit, LimitList, Limits, Share, ShareSource},
    store::{LimitRow, ShareAnswer, ShareAsk},
};
use uuid::Uuid;

use super::{LEASE, MAX_SCHEDULES, SCHEDULES, SERVER, advance_clock, key, now, start_clock};

const NODES: usize = 2;
const LIMIT: u32 = 6;
const LOWERED: u32 = 1;

/// The length of a window.
const WINDOW: Duration = Duration::from_micros(4 * LEASE_MICROS);

/// The length of a lease in microseconds.
const LEASE_MICROS: u64 = LEASE.as_micros() as u64;

/// Lets other threads run for a random time.
fn yield_briefly() {
    for _ in 0..thread_rng().gen_range(0..4) {
        thread::yield_now();
    }
}

/// A rule that a model breaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// All rules hold.
    None,
    /// A call is not checked again after it was taken.
    CheckAfterTaking,
    /// A share is used although the settings have changed.
    Generation,
    /// The change returns before the lease of a silent node has ended.
    Lease,
    /// A node keeps calls that it returns.
    Return,
}

/// The row of the limit, and the windows until now.
struct Database {
    limit: u32,
    generation: i64,
    given: u32,
    spent: i64,
    /// The newest window is the last one.
    windows: Vec<Window>,
}

#[derive(Clone, Copy)]
struct Window {
    began: Duration,
    /// The calls that have passed in the window.
    passed: u32,
    /// The largest limit in the window.
    largest: u32,
}

/// The delivery of the change to the nodes.
#[derive(Clone, Copy, Default)]
struct Delivery {
    changed: bool,
    /// The nodes that have received the change.
    received: [bool; NODES],
    /// The nodes that receive nothing, so that their leases end.
    silent: [bool; NODES],
}

shuttle::thread_local! {
    /// The time that the verifier read last in this thread: the time at which it checked the call.
    static CHECKED_AT: Cell<Duration> = Cell::new(Duration::ZERO);
}

/// The clock of a node.
fn node_clock() -> Duration {
    let now = now();
    CHECKED_AT.with(|checked_at| checked_at.set(now));
    now
}

struct World {
    broken: Rule,
    database: Mutex<Database>,
    delivery: Mutex<Delivery>,
    shares: Vec<Arc<Share>>,
    returned: AtomicBool,
}

impl Database {
    /// Does what the SQL functions do.
    fn share(&mut self, ask: &ShareAsk) -> ShareAnswer {
        let is_stale = ask.least > 0 && ask.generation != self.generation;
        let only_reports = ask.least == 0 || is_stale;
        let runs = self.windows.last().is_some_and(|window| now() < window.began + WINDOW);
        if !runs && !only_reports {
            self.windows.push(Window { began: now(), passed: 0, largest: self.limit });
            (self.given, self.spent) = (0, 0);
        } else if ask.number == self.number() {
            self.given = self.given.saturating_sub(ask.returned);
            self.spent += i64::from(ask.spent);
        }
        let left = self.limit.saturating_sub(self.given);
        let is_given = !only_reports && left >= ask.least;
        let share = if is_given { left.min(3) } else { 0 };
        self.given += share;
        let ends = self.windows.last().map_or(Duration::ZERO, |window| window.began + WINDOW);
        ShareAnswer {
            account: ask.row.account,
            holder: ask.row.holder,
            name: ask.row.name.to_string(),
            number: self.number().filter(|_| !is_stale),
            share,
            given: self.given,
            spent: u32::try_from(self.spent.max(0)).expect("a small number"),
            ends_in: u64::try_from(ends.saturating_sub(now()).as_micros()).expect("a short time"),
        }
    }

    /// Counts a call that was checked at this time. Returns its window.
    fn pass(&mut self, checked_at: Duration) -> Window {
        let window = self.windows.iter_mut().rev().find(|window| window.began <= checked_at);
        let window = window.expect("a call needs a window");
        window.passed += 1;
        *window
    }

    fn number(&self) -> Option<i64> {
        i64::try_from(self.windows.len()).ok().filter(|number| *number > 0)
    }
}

impl World {
    fn new(broken: Rule) -> Self {
        start_clock();
        let row = LimitRow {
            tenant: TenantId::from_uuid(Uuid::nil()),
            account: Uuid::from_u128(1),
            holder: Uuid::from_u128(1),
            owner: Uuid::from_u128(1),
            name: "default".parse().expect("a name"),
        };
        let database =
            Database { limit: LIMIT, generation: 0, given: 0, spent: 0, windows: Vec::new() };
        Self {
            broken,
            database: Mutex::new(database),
            delivery: Mutex::default(),
            shares: (0..NODES).map(|_| Arc::new(Share::new(row.clone()))).collect(),
            returned: AtomicBool::new(false),
        }
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().expect("no panic")
    }

    /// Sends a statement and applies its answer, which may be lost.
    fn send(&self, node: usize, ask: &ShareAsk) {
        let sent = now();
        yield_briefly();
        let answer = self.database().share(ask);
        yield_briefly();
        if thread_rng().gen_range(0..10) == 0 {
            self.shares[node].fail(ask);
        } else if ask.least > 0 {
            self.shares[node].apply(ask, &answer, sent, now());
        } else {
            self.shares[node].wake(ask);
        }
        self.shares[node].is_requested_again();
    }

    /// Records a call that was checked at this time and has passed.
    fn record(&self, checked_at: Duration, began_after_return: bool) {
        let window = self.database().pass(checked_at);
        // These panic without the lock, so that only the thread that found the bug reports it.
        assert!(checked_at < window.began + WINDOW, "over the limit, after the window");
        assert!(window.passed <= window.largest, "over the limit");
        assert!(!began_after_return || window.passed <= LOWERED, "over the lowered limit");
    }

    /// Lowers the limit, and waits until every node has received the change or has lost its lease.
    fn lower_limit(&self, nodes: &[Arc<Node>]) {
        yield_briefly();
        let silent = std::array::from_fn(|_| match self.broken {
            // The checker finds these bugs sooner if all nodes are alike.
            Rule::Lease => true,
            Rule::Generation => false,
            _ => thread_rng().gen_range(0..2) == 0,
        });
        {
            let mut delivery = self.delivery.lock().expect("no panic");
            let mut database = self.database();
            (database.limit, database.generation) = (LOWERED, 1);
            (delivery.changed, delivery.silent) = (true, silent);
        }
        let committed = now();
        for (number, node) in nodes.iter().enumerate() {
            yield_briefly();
            if silent[number] {
                while self.broken != Rule::Lease && now() < committed + LEASE {
                    advance_clock(1_000);
                    thread::yield_now();
                }
            } else {
                node.verifier.invalidate(key().hash().tag());
                self.delivery.lock().expect("no panic").received[number] = true;
            }
        }
        self.returned.store(true, Ordering::SeqCst);
    }
}

/// One node: its verifier, and its share.
struct Node {
    number: usize,
    world: Arc<World>,
    verifier: LeasedVerifier<Lookup>,
}

/// Reads the key with the current settings of its limit.
struct Lookup {
    number: usize,
    world: Arc<World>,
}

impl KeyLookup for Lookup {
    async fn look_up(&self, _: &Presented<'_>, _: ServerId) -> Option<Verdict> {
        let (calls, generation) = {
            let database = self.world.database();
            (database.limit, database.generation)
        };
        thread::yield_now();
        let limit: RateLimit = format!("default={calls}/1").parse().expect("a limit");
        // With the broken rule, the settings never get another generation on this node.
        let generation = if self.world.broken == Rule::Generation { 0 } else { generation };
        let share = Arc::clone(&self.world.shares[self.number]);
        let source = Arc::new(Source { number: self.number, world: Arc::clone(&self.world) });
        let list = Arc::new(LimitList::new([(LimitLevel::Key, limit)].into()));
        let limits = Limits::new(source, list, [CurrentShare { generation, share }]);
        let limits: Arc<dyn KeyLimits> = if self.world.broken == Rule::CheckAfterTaking {
            Arc::new(Unchecked(limits))
        } else {
            Arc::new(limits)
        };
        let parts = PrincipalParts::new(
            "tronagg".parse().expect("a slug"),
            Environment::Live,
            ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
            KeyId::from_uuid(Uuid::from_u128(1)),
            ScopeSet::parse(["read"]).expect("a scope"),
        );
        Some(Ok(Principal::new(parts.limited(Some(limits)))))
    }
}

/// Requests shares only when the client calls [`Node::request`].
struct Source {
    number: usize,
    world: Arc<World>,
}

impl ShareSource for Source {
    fn now(&self) -> Duration {
        now()
    }

    fn request(&self, limit: Limit<'_>, cost: Option<u32>) -> u64 {
        let share = &self.world.shares[self.number];
        share.request(limit.limit(), limit.generation, cost).1
    }

    fn recall_from_others<'a>(
        &'a self,
        _: &'a Arc<Share>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}

/// Limits that spend every call that they have taken.
#[derive(Debug)]
struct Unchecked(Limits);

impl KeyLimits for Unchecked {
    fn take(&self, scopes: &[Scope], cost: Cost) -> Taking {
        self.0.take(scopes, cost)
    }

    fn may_spend(&self, _: &Taken, _: Duration) -> bool {
        true
    }

    fn put_back(&self, taken: &Taken, cost: Cost) {
        self.0.put_back(taken, cost);
    }

    fn wait<'a>(
        &'a self,
        scopes: &'a [Scope],
        cost: Cost,
    ) -> Pin<Box<dyn Future<Output = Waited> + Send + 'a>> {
        self.0.wait(scopes, cost)
    }

    fn states(&self, scopes: &[Scope]) -> Vec<LimitState> {
        self.0.states(scopes)
    }
}

impl Node {
    fn new(number: usize, world: &Arc<World>) -> Self {
        let world = Arc::clone(world);
        let lookup = Lookup { number, world: Arc::clone(&world) };
        Self { number, world, verifier: LeasedVerifier::new(lookup, 16, node_clock) }
    }

    fn share(&self) -> &Arc<Share> {
        &self.world.shares[self.number]
    }

    /// Renews the lease, unless the node lacks a change that was committed before.
    fn renew(&self) {
        let delivery = self.world.delivery.lock().expect("no panic");
        if !delivery.changed || delivery.received[self.number] {
            let clock = Timestamp::from_unix_micros(0).expect("in range");
            self.verifier.grant_lease(now(), LEASE, clock, SERVER);
        }
    }

    /// Makes calls. Requests a share when a call lacks one.
    fn call_repeatedly(&self) {
        for _ in 0..10 {
            self.renew();
            let began_after_return = self.world.returned.load(Ordering::SeqCst);
            let key = key();
            let presented = Presented::new(&key).costing(Some(Cost::ONE));
            match self.verifier.verify_at_once(&presented) {
                Some(Ok(_)) => self.world.record(CHECKED_AT.with(Cell::get), began_after_return),
                Some(Err(_)) => {}
                None => self.request(&key),
            }
            match thread_rng().gen_range(0..8) {
                0 => self.recall(),
                1 => advance_clock(thread_rng().gen_range(0..LEASE_MICROS)),
                _ => yield_briefly(),
            }
        }
    }

    /// Caches the key, and requests a share with its settings.
    fn request(&self, key: &KeyText) {
        let verdict = block_on(self.verifier.verify(&Presented::new(key)));
        let Ok(principal) = verdict else { return };
        let limits = principal.limits.as_ref().expect("the key has limits");
        // This requests a share with the settings that the node has cached.
        let mut waiting = std::pin::pin!(limits.wait(&[], Cost::ONE));
        let mut context = Context::from_waker(Waker::noop());
        let _ = waiting.as_mut().poll(&mut context);
        if let Some(ask) = self.share().ask(now()) {
            self.world.send(self.number, &ask);
        }
    }

    /// Returns what this node has not spent, as after a recall.
    fn recall(&self) {
        let unspent = self.share().cell.unspent();
        let Some(ask) = self.share().recall(now()) else { return };
        if self.world.broken == Rule::Return {
            // The node keeps the calls.
            self.share().cell.add(unspent, self.share().cell.ends(), 0, false);
        }
        self.world.send(self.number, &ask);
    }
}

/// Two nodes make calls, while a change lowers the limit and windows end.
fn call_while_the_limit_is_lowered(broken: Rule) {
    let world = Arc::new(World::new(broken));
    let nodes: Vec<_> = (0..NODES).map(|number| Arc::new(Node::new(number, &world))).collect();
    let callers: Vec<_> = nodes
        .iter()
        .flat_map(|node| [Arc::clone(node), Arc::clone(node)])
        .map(|node| thread::spawn(move || node.call_repeatedly()))
        .collect();
    world.lower_limit(&nodes);
    for caller in callers {
        caller.join().expect("no panic");
    }
}

/// Checks random schedules of a model. Waiting requests create timers, which need a runtime.
fn check(broken: Rule, schedules: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("the runtime starts");
    let _context = runtime.enter();
    shuttle::check_random(move || call_while_the_limit_is_lowered(broken), schedules);
}

#[test]
fn at_most_the_limit_passes_in_each_window_and_at_most_the_lowered_limit_after_the_change() {
    check(Rule::None, SCHEDULES / 2);
}

#[test]
#[should_panic(expected = "over the limit")]
fn checker_detects_a_call_that_is_not_checked_after_it_was_taken() {
    check(Rule::CheckAfterTaking, MAX_SCHEDULES);
}

#[test]
#[should_panic(expected = "over the lowered limit")]
fn checker_detects_a_share_of_an_earlier_generation() {
    check(Rule::Generation, MAX_SCHEDULES);
}

#[test]
#[should_panic(expected = "over the lowered limit")]
fn checker_detects_a_share_that_is_used_after_the_lease() {
    check(Rule::Lease, MAX_SCHEDULES);
}

#[test]
#[should_panic(expected = "over the limit")]
fn checker_detects_a_node_that_keeps_calls_that_it_returns() {
    check(Rule::Return, MAX_SCHEDULES);
}
