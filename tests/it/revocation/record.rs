//! What was done to keys, what became of requests with them, and whether both fit together.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A time in which a key must not pass: from a change to the one that takes it back.
#[derive(Clone, Copy, Debug)]
struct Ban {
    /// When the change was first sent: from then on it may be in force.
    sent: Instant,
    /// When it had returned: from then on it is.
    returned: Option<Instant>,
    /// When taking it back was first sent: from then on it may be gone.
    lifting: Option<Instant>,
    /// When that had returned: from then on it is.
    lifted: Option<Instant>,
}

/// A request that was answered, by which node.
#[derive(Clone, Copy, Debug)]
struct Request {
    begun: Instant,
    answered: Instant,
    node: usize,
    passed: bool,
}

/// What is known of one key.
#[derive(Default)]
pub struct Record {
    bans: Mutex<Vec<Ban>>,
    requests: Mutex<Vec<Request>>,
}

/// What a judgement counts.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub passed: usize,
    pub refused: usize,
    /// Requests that were begun while a key was banned for certain.
    pub banned: usize,
}

impl Record {
    /// A change is sent; it may be sent again.
    pub fn ban(&self) {
        let now = Instant::now();
        lock(&self.bans).push(Ban { sent: now, returned: None, lifting: None, lifted: None });
    }

    pub fn banned(&self) {
        lock(&self.bans).last_mut().expect("a ban").returned = Some(Instant::now());
    }

    pub fn lift(&self) {
        lock(&self.bans).last_mut().expect("a ban").lifting = Some(Instant::now());
    }

    pub fn lifted(&self) {
        lock(&self.bans).last_mut().expect("a ban").lifted = Some(Instant::now());
    }

    pub fn answered(&self, begun: Instant, node: usize, passed: bool) {
        let request = Request { begun, answered: Instant::now(), node, passed };
        lock(&self.requests).push(request);
    }

    /// Counts, and tells of each request that was answered as it must not have been.
    pub fn judge(&self, key: &str, tally: &mut Tally, violations: &mut Vec<String>) {
        let bans = lock(&self.bans);
        for request in lock(&self.requests).iter() {
            // For certain: for all of the time from its beginning to its answer.
            let banned = bans.iter().find(|ban| {
                ban.returned.is_some_and(|at| at <= request.begun)
                    && ban.lifting.is_none_or(|at| at >= request.answered)
            });
            let perhaps = bans.iter().any(|ban| {
                ban.sent <= request.answered && ban.lifted.is_none_or(|at| at >= request.begun)
            });
            tally.passed += usize::from(request.passed);
            tally.refused += usize::from(!request.passed);
            tally.banned += usize::from(banned.is_some());
            if let Some(ban) = banned.filter(|_| request.passed) {
                let since = request.begun - ban.returned.expect("it is in force");
                let took = request.answered - request.begun;
                violations.push(format!(
                    "{key} passed on node {} in {took:?}, begun {since:?} after the change had \
                     returned",
                    request.node
                ));
            }
            if !request.passed && !perhaps {
                violations.push(format!("{key} was refused on node {} for nothing", request.node));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
