//! A failover between two database servers. After the standby is promoted, the old primary still
//! answers reads, but acknowledges no commit.

use std::sync::Arc;

use shuttle::{
    future::block_on,
    rand::{Rng as _, thread_rng},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};
use tollgate::{
    auth::{KeyLookup, KeyVerifier as _, LeasedVerifier, Presented, Verdict},
    domain::{server::ServerId, timestamp::Timestamp},
};

use super::{
    LEASE, MAX_SCHEDULES, Notice, SCHEDULES, advance_clock, key, now, start_clock, verdict,
    yield_randomly,
};

/// The state that a server has committed. Readers see it.
#[derive(Clone, Default)]
struct Server {
    revoked: bool,
    committed: Vec<Notice>,
    /// The newest renewal of the node.
    renewal: usize,
}

#[derive(Default)]
struct Servers {
    old: Server,
    /// `None` while the server is a standby, because no node reads from a standby.
    new: Option<Server>,
}

/// The server at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Old,
    New,
}

impl Which {
    const fn id(self) -> ServerId {
        match self {
            Self::Old => ServerId::started_at(1),
            Self::New => ServerId::started_at(2),
        }
    }
}

impl Servers {
    fn of(&self, which: Which) -> &Server {
        match (which, &self.new) {
            (Which::New, Some(new)) => new,
            _ => &self.old,
        }
    }

    /// Picks the server of a new connection. A balancer may choose any server except a standby.
    fn any(&self) -> Which {
        if self.new.is_some() && thread_rng().gen_range(0..2) == 0 {
            Which::New
        } else {
            Which::Old
        }
    }

    /// Commits on a server. The old primary acknowledges no commit after the promotion.
    fn commit(&mut self, which: Which, notice: Notice) -> bool {
        let server = match (which, &mut self.new) {
            (Which::Old, None) => &mut self.old,
            (Which::New, Some(new)) => new,
            _ => return false,
        };
        server.revoked |= matches!(notice, Notice::Changed);
        if let Notice::Renewed(number) = notice {
            server.renewal = number;
        }
        server.committed.push(notice);
        true
    }
}

/// The rule by which a node decides which answers it uses.
#[derive(Clone, Copy)]
enum Rule {
    /// The node uses only answers from the server that granted its lease.
    SameServer,
    /// The node uses answers from any server.
    AnyServer,
    /// A node with a lease uses answers from the server that granted the lease. A node without a
    /// lease uses answers from a server that contains its newest renewal.
    NewestRenewal,
}

/// The connections for key lookups.
struct Lookup {
    servers: Arc<Mutex<Servers>>,
    rule: Rule,
}

impl KeyLookup for Lookup {
    async fn look_up(&self, _: &Presented<'_>, wanted: ServerId) -> Option<Verdict> {
        let (answering, revoked) = {
            let servers = self.servers.lock().expect("no panic");
            let which = servers.any();
            (which.id(), servers.of(which).revoked)
        };
        // Other threads may run before the reply arrives.
        thread::yield_now();
        match self.rule {
            Rule::SameServer | Rule::NewestRenewal if answering != wanted => None,
            _ => Some(verdict(!revoked)),
        }
    }
}

struct World {
    servers: Arc<Mutex<Servers>>,
    rule: Rule,
    verifier: LeasedVerifier<Lookup>,
    /// The number of the newest renewal that was committed.
    renewal: AtomicUsize,
    acknowledged: AtomicBool,
    returned: AtomicBool,
    finished: AtomicBool,
}

impl World {
    fn new(rule: Rule) -> Self {
        start_clock();
        let servers = Arc::<Mutex<Servers>>::default();
        let lookup = Lookup { servers: Arc::clone(&servers), rule };
        Self {
            servers,
            rule,
            verifier: LeasedVerifier::new(lookup, 16, now),
            renewal: AtomicUsize::new(0),
            acknowledged: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        self.servers.lock().expect("no panic")
    }

    /// Renews the lease of a node and applies notices. The node opens a new session when its server
    /// does not acknowledge a renewal, and once at a random time.
    fn keep_lease(&self) {
        let lost_at = thread_rng().gen_range(0..8);
        let mut session = None;
        for round in 0..10 {
            let (which, mut received) = match session {
                Some(session) if round != lost_at => session,
                _ => self.open_session(),
            };
            let sent = now();
            let renewal = {
                let number = self.renewal.load(Ordering::SeqCst) + 1;
                let committed = self.servers().commit(which, Notice::Renewed(number));
                if committed {
                    self.renewal.store(number, Ordering::SeqCst);
                }
                committed.then_some(number)
            };
            advance_clock(thread_rng().gen_range(0..1_000));
            let Some(renewal) = renewal else {
                session = None;
                continue;
            };
            loop {
                let notice = self.servers().of(which).committed.get(received).copied();
                let Some(notice) = notice else { break };
                received += 1;
                match notice {
                    Notice::Changed => {
                        self.verifier.invalidate(key().hash().tag());
                        self.acknowledged.store(true, Ordering::SeqCst);
                    }
                    Notice::Renewed(number) if number == renewal => {
                        let clock = Timestamp::from_unix_micros(0).expect("in range");
                        self.verifier.grant_lease(sent, LEASE, clock, which.id());
                    }
                    Notice::Renewed(_) => {}
                }
            }
            session = Some((which, received));
            thread::yield_now();
        }
    }

    /// Opens a session. Returns its server, and the index of the first notice that the session
    /// receives.
    fn open_session(&self) -> (Which, usize) {
        let which = self.servers().any();
        self.verifier.end_lease();
        let received = self.servers().of(which).committed.len();
        yield_randomly();
        self.verifier.clear();
        (which, received)
    }

    /// Promotes the standby, which contains every acknowledged commit.
    fn promote(&self) {
        yield_randomly();
        let mut servers = self.servers();
        servers.new = Some(servers.old.clone());
    }

    /// Revokes the key on another node, which is connected to the current primary. The other node
    /// reads the renewals there, and then waits for one lease.
    fn revoke(&self) {
        yield_randomly();
        {
            let mut servers = self.servers();
            let primary = if servers.new.is_some() { Which::New } else { Which::Old };
            assert!(servers.commit(primary, Notice::Changed), "a primary commits");
        }
        let end = now() + LEASE;
        while !self.acknowledged.load(Ordering::SeqCst) && now() < end {
            advance_clock(thread_rng().gen_range(0..1_000));
            thread::yield_now();
        }
        self.returned.store(true, Ordering::SeqCst);
    }

    fn verify_until_finished(&self) {
        while !self.finished.load(Ordering::SeqCst) {
            let returned = self.returned.load(Ordering::SeqCst);
            let key = key();
            let presented = Presented::new(&key);
            let asked = match self.verifier.verify_at_once(&presented) {
                Some(verdict) => Ok(verdict),
                None => block_on(self.verifier.ask(&presented)),
            };
            let verdict = match asked {
                Ok(verdict) => verdict,
                Err(_) if matches!(self.rule, Rule::NewestRenewal) => self.ask_without_a_lease(),
                Err(_) => verdict(false),
            };
            assert!(!returned || verdict.is_err(), "the node accepted a revoked key");
            yield_randomly();
        }
    }

    fn ask_without_a_lease(&self) -> Verdict {
        let newest = self.renewal.load(Ordering::SeqCst);
        let servers = self.servers();
        let server = servers.of(servers.any());
        verdict(server.renewal == newest && !server.revoked)
    }
}

fn revoke_during_a_failover(rule: Rule) {
    let world = Arc::new(World::new(rule));
    let run = |work: fn(&World)| {
        let world = Arc::clone(&world);
        thread::spawn(move || work(&world))
    };
    let node = run(World::keep_lease);
    let failover = run(World::promote);
    let client = run(World::verify_until_finished);
    world.revoke();
    for thread in [node, failover] {
        thread.join().expect("no panic");
    }
    world.finished.store(true, Ordering::SeqCst);
    client.join().expect("no panic");
}

#[test]
fn revoked_key_is_refused_even_if_the_node_still_reads_the_old_primary() {
    let check = || revoke_during_a_failover(Rule::SameServer);
    shuttle::check_random(check, SCHEDULES);
    shuttle::check_pct(check, SCHEDULES, 4);
}

#[test]
#[should_panic(expected = "the node accepted a revoked key")]
fn checker_detects_a_node_that_uses_answers_from_any_server() {
    shuttle::check_random(|| revoke_during_a_failover(Rule::AnyServer), MAX_SCHEDULES);
}

#[test]
#[should_panic(expected = "the node accepted a revoked key")]
fn checker_detects_a_node_that_compares_renewals_instead_of_waiting_for_a_lease() {
    shuttle::check_random(|| revoke_during_a_failover(Rule::NewestRenewal), MAX_SCHEDULES);
}
