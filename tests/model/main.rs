//! Runs the cache and the lease under a model checker, shuttle, which tries different schedules of
//! the threads. With the feature `model`, the cache and the lease use the synchronization
//! primitives of shuttle.
//!
//! The tests check that a verification never returns an outdated verdict if it begins after a
//! change has returned. Six tests break a rule of the protocol on purpose, and show that the
//! checker detects the violation.

mod failover;
mod shares;

use std::{cell::Cell, sync::Arc, time::Duration};

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
        Denial, Denied, Found, KeyCache, KeyLookup, KeyVerifier as _, LeasedVerifier, Presented,
        Principal, PrincipalParts, Verdict,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        api_key::KeyText,
        id::KeyId,
        key_group::KeyGroup,
        scope::ScopeSet,
        server::ServerId,
        tenant::Environment,
        timestamp::Timestamp,
    },
};
use uuid::Uuid;

/// The number of schedules for a check that must find no violation.
const SCHEDULES: usize = 5_000;

/// The maximum number of schedules for a check that ends when it finds a violation.
const MAX_SCHEDULES: usize = 1_000_000;

const SERVER: ServerId = ServerId::started_at(1);

const LEASE: Duration = Duration::from_micros(6_400);

fn key() -> KeyText {
    KeyText::parse(&format!("ta_{:043}", 1)).expect("well formed")
}

fn valid_verdict() -> Verdict {
    Ok(Principal::new(PrincipalParts::new(
        "tronagg".parse().expect("a slug"),
        Environment::Live,
        ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
        KeyId::from_uuid(Uuid::from_u128(1)),
        ScopeSet::parse(["read"]).expect("a scope"),
    )))
}

fn verdict(is_live: bool) -> Verdict {
    if is_live { valid_verdict() } else { Err(Denied::from(Denial::Revoked)) }
}

thread_local! {
    /// The clock of a model. It is thread-local, because all threads of a model run on one thread
    /// of the operating system.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> Duration {
    NOW.get()
}

fn start_clock() {
    NOW.set(Duration::from_secs(1));
}

fn advance_clock(micros: u64) {
    NOW.set(NOW.get() + Duration::from_micros(micros));
}

/// Lets other threads run for a random time.
fn yield_randomly() {
    for _ in 0..thread_rng().gen_range(0..20) {
        thread::yield_now();
    }
}

/// The database: the key, and the committed notices in order.
#[derive(Default)]
struct Database(Mutex<State>);

#[derive(Default)]
struct State {
    revoked: bool,
    committed: Vec<Notice>,
}

impl Database {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

#[derive(Clone, Copy)]
enum Notice {
    Changed,
    Renewed(usize),
}

impl Database {
    fn read(&self) -> Verdict {
        let revoked = self.state().revoked;
        // Other threads may run before the reply arrives.
        thread::yield_now();
        verdict(!revoked)
    }
}

impl KeyLookup for Database {
    async fn look_up(&self, _: &Presented<'_>, _: ServerId) -> Option<Verdict> {
        Some(self.read())
    }
}

/// The ticket with which the reader inserts a row into the cache after a miss.
#[derive(Clone, Copy)]
enum Insert {
    /// A ticket that the reader takes before it reads the row, as in the cache.
    ByTicket,
    /// A ticket that the reader takes after it has read the row. It does not detect a change during
    /// the read.
    Unchecked,
}

/// The change that makes the verdict on the key outdated.
#[derive(Clone, Copy)]
enum Changed {
    Key,
    /// All keys of the key's tenant.
    Group,
}

/// Runs one thread that reads and caches the key, and another thread that changes the key. Asserts
/// that the cache contains no stale row afterwards.
fn insert_during_a_change(insert: Insert, changed: Changed) {
    let cache = Arc::new(KeyCache::new(16));
    let database = Arc::new(Database::default());
    let hash = key().hash();
    let reader = {
        let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
        thread::spawn(move || {
            let Found::Miss(ticket) = cache.look_up(&hash) else { return };
            let read = database.read();
            let ticket = match insert {
                Insert::ByTicket => ticket,
                Insert::Unchecked => cache.ticket(&hash),
            };
            cache.insert(&hash, ticket, &read);
        })
    };
    database.state().revoked = true;
    match changed {
        Changed::Key => cache.invalidate(hash.tag()),
        Changed::Group => cache.invalidate_group(KeyGroup::default()),
    }
    // The change has returned, but the reader may still be running.
    for _ in 0..2 {
        if let Found::Hit(verdict) = cache.look_up(&hash) {
            assert!(verdict.is_err(), "a stale row entered the cache");
        }
        thread::yield_now();
    }
    reader.join().expect("no panic");
    if let Found::Hit(verdict) = cache.look_up(&hash) {
        assert!(verdict.is_err(), "a stale row entered the cache");
    }
}

#[test]
fn row_that_was_read_before_a_change_never_enters_the_cache_after_the_change() {
    for changed in [Changed::Key, Changed::Group] {
        shuttle::check_random(move || insert_during_a_change(Insert::ByTicket, changed), SCHEDULES);
    }
}

#[test]
#[should_panic(expected = "a stale row entered the cache")]
fn checker_detects_a_cached_row_that_changed_while_it_was_read() {
    let unchecked = || insert_during_a_change(Insert::Unchecked, Changed::Key);
    shuttle::check_random(unchecked, MAX_SCHEDULES);
}

#[test]
#[should_panic(expected = "a stale row entered the cache")]
fn checker_detects_a_cached_row_whose_tenant_changed_while_it_was_read() {
    let unchecked = || insert_during_a_change(Insert::Unchecked, Changed::Group);
    shuttle::check_random(unchecked, MAX_SCHEDULES);
}

/// The way in which a node reconnects after it has lost its session.
#[derive(Clone, Copy)]
enum Reconnect {
    /// The node listens, then clears its cache.
    Clear,
    /// The node keeps its cache, including outdated keys that changed while it did not listen.
    Keep,
}

/// How long a node that made a change waits for another node that does not acknowledge it.
#[derive(Clone, Copy)]
enum Wait {
    /// One lease from the time at which it read the other node's last renewal.
    FullLease,
    /// Half a lease. This is too short, because the other node may still hold its lease.
    HalfLease,
}

/// The state that the threads of a model share.
struct World {
    database: Arc<Database>,
    verifier: LeasedVerifier<Arc<Database>>,
    acknowledged: AtomicBool,
    returned: AtomicBool,
    finished: AtomicBool,
}

impl World {
    fn new() -> Self {
        start_clock();
        let database = Arc::new(Database::default());
        let verifier = LeasedVerifier::new(Arc::clone(&database), 16, now);
        Self {
            database,
            verifier,
            acknowledged: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

    /// Renews the lease of a node and applies notices. The node loses its session once. At a random
    /// point it stops receiving notices, but still commits renewals.
    fn keep_lease(&self, reconnect: Reconnect) {
        let (lost_at, last_notice) = (thread_rng().gen_range(0..5), thread_rng().gen_range(0..40));
        let mut received = 0;
        for round in 0..10 {
            if round == lost_at {
                received = self.reconnect(reconnect);
            }
            let sent = now();
            let renewal = {
                let mut database = self.database.state();
                let renewal = database.committed.len();
                database.committed.push(Notice::Renewed(renewal));
                renewal
            };
            advance_clock(thread_rng().gen_range(0..1_000));
            loop {
                let notice = {
                    let database = self.database.state();
                    database.committed.get(received).copied()
                };
                if received == last_notice {
                    break;
                }
                let Some(notice) = notice else { break };
                received += 1;
                match notice {
                    Notice::Changed => {
                        self.verifier.invalidate(key().hash().tag());
                        self.acknowledged.store(true, Ordering::SeqCst);
                    }
                    Notice::Renewed(number) if number == renewal => {
                        let clock = Timestamp::from_unix_micros(0).expect("in range");
                        self.verifier.grant_lease(sent, LEASE, clock, SERVER);
                    }
                    Notice::Renewed(_) => {}
                }
            }
            thread::yield_now();
        }
    }

    /// Opens a new session. Returns the index of the first notice that it receives.
    fn reconnect(&self, reconnect: Reconnect) -> usize {
        let listen = || self.database.state().committed.len();
        self.verifier.end_lease();
        match reconnect {
            Reconnect::Clear => {
                let received = listen();
                yield_randomly();
                self.verifier.clear();
                received
            }
            Reconnect::Keep => listen(),
        }
    }

    /// Revokes the key on another node, and waits as the protocol requires.
    fn revoke(&self, wait: Wait) {
        yield_randomly();
        {
            let mut database = self.database.state();
            database.revoked = true;
            database.committed.push(Notice::Changed);
        }
        // The node reads the renewals here. Later renewals do not count.
        drop(self.database.state());
        let read_at = now();
        let end = match wait {
            Wait::FullLease => read_at + LEASE,
            Wait::HalfLease => read_at + LEASE / 2,
        };
        while !self.acknowledged.load(Ordering::SeqCst) && now() < end {
            advance_clock(thread_rng().gen_range(0..1_000));
            thread::yield_now();
        }
        self.returned.store(true, Ordering::SeqCst);
    }

    fn verify_until_finished(&self) {
        while !self.finished.load(Ordering::SeqCst) {
            let returned = self.returned.load(Ordering::SeqCst);
            let (key, verifier) = (key(), &self.verifier);
            let presented = Presented::new(&key);
            let verdict = verifier.verify_at_once(&presented);
            let verdict = verdict.unwrap_or_else(|| block_on(verifier.verify(&presented)));
            assert!(!returned || verdict.is_err(), "the node accepted a revoked key");
            yield_randomly();
        }
    }
}

fn revoke_during_renewals(reconnect: Reconnect, wait: Wait) {
    let world = Arc::new(World::new());
    let node = Arc::clone(&world);
    let node = thread::spawn(move || node.keep_lease(reconnect));
    let client = Arc::clone(&world);
    let client = thread::spawn(move || client.verify_until_finished());
    world.revoke(wait);
    node.join().expect("no panic");
    world.finished.store(true, Ordering::SeqCst);
    client.join().expect("no panic");
}

#[test]
fn key_is_refused_after_its_revocation_has_returned() {
    let check = || revoke_during_renewals(Reconnect::Clear, Wait::FullLease);
    shuttle::check_random(check, SCHEDULES);
    shuttle::check_pct(check, SCHEDULES, 3);
}

#[test]
#[should_panic(expected = "the node accepted a revoked key")]
fn checker_detects_a_revocation_that_does_not_wait_for_the_lease() {
    shuttle::check_random(
        || revoke_during_renewals(Reconnect::Clear, Wait::HalfLease),
        MAX_SCHEDULES,
    );
}

#[test]
#[should_panic(expected = "the node accepted a revoked key")]
fn checker_detects_a_node_that_keeps_its_cache_for_a_new_session() {
    shuttle::check_random(
        || revoke_during_renewals(Reconnect::Keep, Wait::FullLease),
        MAX_SCHEDULES,
    );
}

/// Reads a cached verdict while the node has no lease and has missed the revocation of the key.
/// Concurrently, the node applies the revocation and obtains its next lease.
fn read_the_cache_before_a_lease(applies_the_change: bool) {
    let world = Arc::new(World::new());
    let (key, clock) = (key(), Timestamp::from_unix_micros(0).expect("in range"));
    let presented = Presented::new(&key);
    world.verifier.grant_lease(now(), LEASE, clock, SERVER);
    assert!(block_on(world.verifier.verify(&presented)).is_ok());
    advance_clock(7_000);
    world.database.state().revoked = true;
    let node = Arc::clone(&world);
    let node = thread::spawn(move || {
        if applies_the_change {
            node.verifier.invalidate(self::key().hash().tag());
        }
        node.verifier.grant_lease(now(), LEASE, clock, SERVER);
    });
    let verdict = world.verifier.verify_at_once(&presented);
    assert!(!matches!(verdict, Some(Ok(_))), "the node accepted a revoked key");
    node.join().expect("no panic");
}

#[test]
fn verdict_that_was_read_before_a_missed_change_is_not_used_under_the_next_lease() {
    shuttle::check_random(|| read_the_cache_before_a_lease(true), SCHEDULES);
}

#[test]
#[should_panic(expected = "the node accepted a revoked key")]
fn checker_detects_a_lease_without_the_changes_before_it() {
    shuttle::check_random(|| read_the_cache_before_a_lease(false), MAX_SCHEDULES);
}
