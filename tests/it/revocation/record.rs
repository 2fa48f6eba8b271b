//! Records the requests with each key and the changes to the key. Checks that each response fits
//! the changes.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// A period in which nodes must refuse a key. It lasts from a change that forbids the key until the
/// change that undoes it.
#[derive(Clone, Copy, Debug)]
struct Ban {
    /// The time at which a client first sent the change. The ban may be in force from this time on.
    sent: Instant,
    /// A time after the change returned. The ban is in force from this time on.
    returned: Option<Instant>,
    /// The time at which a client first sent the undo. The ban may have ended at any later time.
    undo_sent: Option<Instant>,
    /// A time after the undo returned. The ban has ended by this time.
    undo_returned: Option<Instant>,
}

/// A request with the key.
#[derive(Clone, Copy, Debug)]
struct Request {
    begun: Instant,
    answered: Instant,
    node: usize,
    passed: bool,
}

/// The bans and requests of one key.
#[derive(Default)]
pub struct Record {
    bans: Mutex<Vec<Ban>>,
    requests: Mutex<Vec<Request>>,
}

/// The number of requests with all keys, by result.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub passed: usize,
    pub refused: usize,
    /// Requests during which the ban of the key was certainly in force.
    pub banned: usize,
}

impl Record {
    /// Records that a client sends a change that forbids the key. The client may retry the request.
    pub fn ban_sent(&self) {
        let now = Instant::now();
        lock(&self.bans).push(Ban {
            sent: now,
            returned: None,
            undo_sent: None,
            undo_returned: None,
        });
    }

    pub fn ban_returned(&self) {
        lock(&self.bans).last_mut().expect("a ban was recorded").returned = Some(Instant::now());
    }

    pub fn undo_sent(&self) {
        lock(&self.bans).last_mut().expect("a ban was recorded").undo_sent = Some(Instant::now());
    }

    pub fn undo_returned(&self) {
        lock(&self.bans).last_mut().expect("a ban was recorded").undo_returned =
            Some(Instant::now());
    }

    pub fn answered(&self, begun: Instant, node: usize, passed: bool) {
        let request = Request { begun, answered: Instant::now(), node, passed };
        lock(&self.requests).push(request);
    }

    /// Counts the requests of the key, and adds a violation for each wrong response.
    pub fn judge(&self, key: &str, tally: &mut Tally, violations: &mut Vec<String>) {
        let bans = lock(&self.bans);
        for request in lock(&self.requests).iter() {
            // The ban certainly applies to a request if the ban was in force from the request to
            // its response.
            let certain_ban = bans.iter().find(|ban| {
                ban.returned.is_some_and(|at| at <= request.begun)
                    && ban.undo_sent.is_none_or(|at| at >= request.answered)
            });
            let may_be_banned = bans.iter().any(|ban| {
                ban.sent <= request.answered
                    && ban.undo_returned.is_none_or(|at| at >= request.begun)
            });
            tally.passed += usize::from(request.passed);
            tally.refused += usize::from(!request.passed);
            tally.banned += usize::from(certain_ban.is_some());
            if let Some(ban) = certain_ban.filter(|_| request.passed) {
                let since = request.begun - ban.returned.expect("the change has returned");
                let took = request.answered - request.begun;
                violations.push(format!(
                    "{key} passed on node {} in {took:?}; the request began {since:?} after the \
                     change had returned",
                    request.node
                ));
            }
            if !request.passed && !may_be_banned {
                violations
                    .push(format!("{key} was refused on node {} without a change", request.node));
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
