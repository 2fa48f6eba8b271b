//! The cache and the lease in the hands of a model checker, shuttle: it tries the orders in which
//! threads can meet. With the feature `model`, what they share between threads is shuttle's.
//!
//! What is claimed: a verification that begins after a change has returned is not answered by what
//! was so before it. Three tests show that the checker finds what breaks that.

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
        Denial, Denied, Found, KeyCache, KeyVerifier, LeasedVerifier, Presented, Principal,
        PrincipalParts, Verdict,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        api_key::KeyText,
        id::KeyId,
        scope::ScopeSet,
        tenant::Environment,
        timestamp::Timestamp,
    },
};
use uuid::Uuid;

/// Orders that are tried by a check that shall find nothing.
const ORDERS: usize = 5_000;

/// Those of a check that ends when it finds what it looks for.
const ENOUGH_ORDERS: usize = 1_000_000;

const LEASE: Duration = Duration::from_micros(6_400);

fn key() -> KeyText {
    KeyText::parse(&format!("ta_{:043}", 1)).expect("well formed")
}

fn passes() -> Verdict {
    Ok(Principal::new(PrincipalParts::new(
        "tronagg".parse().expect("a slug"),
        Environment::Live,
        ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
        KeyId::from_uuid(Uuid::from_u128(1)),
        ScopeSet::parse(["read"]).expect("a scope"),
    )))
}

fn verdict(live: bool) -> Verdict {
    if live { passes() } else { Err(Denied::from(Denial::Revoked)) }
}

thread_local! {
    /// This machine's clock. All threads of a model are one thread of the machine.
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> Duration {
    NOW.get()
}

fn pass(micros: u64) {
    NOW.set(NOW.get() + Duration::from_micros(micros));
}

/// Lets the others do something.
fn take_a_while() {
    for _ in 0..thread_rng().gen_range(0..20) {
        thread::yield_now();
    }
}

/// The database: the key, and what was committed, in its order.
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

impl KeyVerifier for Database {
    async fn verify(&self, _: &Presented<'_>) -> Verdict {
        let revoked = self.state().revoked;
        // On the way back anything may happen.
        thread::yield_now();
        verdict(!revoked)
    }
}

/// How a row comes into the cache that was read when it was not there.
#[derive(Clone, Copy)]
enum Insert {
    /// By the ticket that was taken before it was read.
    ByTicket,
    /// By one that is taken when it comes in, which is as good as none.
    Unchecked,
}

/// One reads the key and keeps it, while another changes it. Afterwards the cache is asked.
fn insert_amid_a_change(insert: Insert) {
    let cache = Arc::new(KeyCache::new(16));
    let database = Arc::new(Database::default());
    let hash = key().hash();
    let reader = {
        let (cache, database) = (Arc::clone(&cache), Arc::clone(&database));
        thread::spawn(move || {
            let Found::Miss(ticket) = cache.look_up(&hash) else { return };
            let read = block_on(database.verify(&Presented::new(&key())));
            let ticket = match insert {
                Insert::ByTicket => ticket,
                Insert::Unchecked => cache.ticket(&hash),
            };
            cache.insert(&hash, ticket, &read);
        })
    };
    database.state().revoked = true;
    cache.invalidate(hash.tag());
    // From here on the change has returned; the reader may still be on its way.
    for _ in 0..2 {
        if let Found::Hit(verdict) = cache.look_up(&hash) {
            assert!(verdict.is_err(), "a stale row came in");
        }
        thread::yield_now();
    }
    reader.join().expect("no panic");
    if let Found::Hit(verdict) = cache.look_up(&hash) {
        assert!(verdict.is_err(), "a stale row came in");
    }
}

#[test]
fn row_read_before_a_change_never_enters_the_cache_after_it() {
    shuttle::check_random(|| insert_amid_a_change(Insert::ByTicket), ORDERS);
}

#[test]
#[should_panic(expected = "a stale row came in")]
fn checker_finds_a_row_inserted_without_a_ticket() {
    shuttle::check_random(|| insert_amid_a_change(Insert::Unchecked), ENOUGH_ORDERS);
}

/// What a node does that has lost its session, once it has a new one.
#[derive(Clone, Copy)]
enum Rebuild {
    /// It listens, then drops what it has.
    ListenFirst,
    /// It drops what it has, then listens: what is read and changed in between stays.
    ClearFirst,
}

/// How long a node that made a change waits for one that does not acknowledge it.
#[derive(Clone, Copy)]
enum Wait {
    /// A lease, from when it has read that node's last renewal.
    ALease,
    /// Less than the node may hold its lease.
    Less,
}

/// What the nodes of a model share.
struct World {
    database: Arc<Database>,
    verifier: LeasedVerifier<Arc<Database>>,
    acknowledged: AtomicBool,
    returned: AtomicBool,
    finished: AtomicBool,
}

impl World {
    fn new() -> Self {
        NOW.set(Duration::from_secs(1));
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

    /// A node that renews its lease and applies what it hears. Once it loses its session; and at
    /// some moment it hears nothing any more, while its renewals are committed.
    fn keep_lease(&self, rebuild: Rebuild) {
        let (lost_at, deaf_after) = (thread_rng().gen_range(0..5), thread_rng().gen_range(0..40));
        let mut heard = 0;
        for round in 0..10 {
            if round == lost_at {
                heard = self.rebuild(rebuild);
            }
            let sent = now();
            let renewal = {
                let mut database = self.database.state();
                let renewal = database.committed.len();
                database.committed.push(Notice::Renewed(renewal));
                renewal
            };
            pass(thread_rng().gen_range(0..1_000));
            loop {
                let notice = {
                    let database = self.database.state();
                    database.committed.get(heard).copied()
                };
                if heard == deaf_after {
                    break;
                }
                let Some(notice) = notice else { break };
                heard += 1;
                match notice {
                    Notice::Changed => {
                        self.verifier.invalidate(key().hash().tag());
                        self.acknowledged.store(true, Ordering::SeqCst);
                    }
                    Notice::Renewed(number) if number == renewal => {
                        let clock = Timestamp::from_unix_micros(0).expect("in range");
                        self.verifier.grant_lease(sent, LEASE, clock);
                    }
                    Notice::Renewed(_) => {}
                }
            }
            thread::yield_now();
        }
    }

    /// A new session. Returns the place of the first notice that it hears.
    fn rebuild(&self, rebuild: Rebuild) -> usize {
        let listen = || self.database.state().committed.len();
        self.verifier.end_lease();
        match rebuild {
            Rebuild::ListenFirst => {
                let heard = listen();
                take_a_while();
                self.verifier.clear();
                heard
            }
            Rebuild::ClearFirst => {
                self.verifier.clear();
                take_a_while();
                listen()
            }
        }
    }

    /// Revokes the key on another node, and waits as the protocol says.
    fn revoke(&self, wait: Wait) {
        take_a_while();
        {
            let mut database = self.database.state();
            database.revoked = true;
            database.committed.push(Notice::Changed);
        }
        // The renewals that are there now, and no later one, count.
        drop(self.database.state());
        let read_at = now();
        let end = match wait {
            Wait::ALease => read_at + LEASE,
            Wait::Less => read_at + LEASE / 2,
        };
        while !self.acknowledged.load(Ordering::SeqCst) && now() < end {
            pass(thread_rng().gen_range(0..1_000));
            thread::yield_now();
        }
        self.returned.store(true, Ordering::SeqCst);
    }

    fn ask(&self) {
        while !self.finished.load(Ordering::SeqCst) {
            let returned = self.returned.load(Ordering::SeqCst);
            let verdict = block_on(self.verifier.verify(&Presented::new(&key())));
            assert!(!returned || verdict.is_err(), "a revoked key passed");
            take_a_while();
        }
    }
}

fn revoke_amid_renewals(rebuild: Rebuild, wait: Wait) {
    let world = Arc::new(World::new());
    let node = Arc::clone(&world);
    let node = thread::spawn(move || node.keep_lease(rebuild));
    let asker = Arc::clone(&world);
    let asker = thread::spawn(move || asker.ask());
    world.revoke(wait);
    node.join().expect("no panic");
    world.finished.store(true, Ordering::SeqCst);
    asker.join().expect("no panic");
}

#[test]
fn no_verification_passes_a_key_after_its_revoke_has_returned() {
    let check = || revoke_amid_renewals(Rebuild::ListenFirst, Wait::ALease);
    shuttle::check_random(check, ORDERS);
    shuttle::check_pct(check, ORDERS, 3);
}

#[test]
#[should_panic(expected = "a revoked key passed")]
fn checker_finds_a_revoke_that_does_not_wait_for_the_lease() {
    shuttle::check_random(|| revoke_amid_renewals(Rebuild::ListenFirst, Wait::Less), ENOUGH_ORDERS);
}

#[test]
#[should_panic(expected = "a revoked key passed")]
fn checker_finds_a_node_that_clears_its_cache_before_it_listens() {
    shuttle::check_random(
        || revoke_amid_renewals(Rebuild::ClearFirst, Wait::ALease),
        ENOUGH_ORDERS,
    );
}
