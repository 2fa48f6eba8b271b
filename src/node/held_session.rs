use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::domain::server::ServerId;

/// Maximum number of requests that wait for a lease. Further requests get a 503.
const MAX_WAITING: usize = 65_536;

/// The session that renews this node's lease, and the requests that wait for a lease.
#[derive(Default)]
pub(super) struct HeldSession {
    current: Mutex<Current>,
    granted: Notify,
    ended: Notify,
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Current {
    number: SessionNumber,
    /// The server of the session. `None` if no session may grant a lease.
    server: Option<ServerId>,
}

/// Identifies a session of a node.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct SessionNumber(u64);

/// A waiting request. Dropping this value makes room for another request.
pub(super) struct Waiting<'a>(&'a HeldSession);

impl HeldSession {
    /// Records that a new session on this server replaces the previous one.
    pub fn begin(&self, server: ServerId) -> SessionNumber {
        let mut current = self.lock();
        *current = Current { number: SessionNumber(current.number.0 + 1), server: Some(server) };
        current.number
    }

    /// Calls `grant` unless the session was replaced or ended. Returns whether it called `grant`.
    pub fn grant(&self, number: SessionNumber, grant: impl FnOnce()) -> bool {
        let current = self.lock();
        if current.number != number || current.server.is_none() {
            return false;
        }
        grant();
        drop(current);
        self.granted.notify_waiters();
        true
    }

    /// Records that a change by this node was committed on `server`. If the session is on a
    /// different server, it can grant no more leases, and `end` ends its current lease.
    pub fn committed_on(&self, server: ServerId, end: impl FnOnce()) {
        let mut current = self.lock();
        if current.server.is_some_and(|own| own != server) {
            current.server = None;
            end();
            self.ended.notify_one();
        }
    }

    /// Waits until a change on another server has ended the session.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Registers a waiting request. Returns `None` if too many requests already wait.
    pub fn wait(&self) -> Option<Waiting<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            return Some(Waiting(self));
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Each operation replaces the value as a whole, so a panic in another thread is harmless.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Waits until `holds_lease` returns `true`. Returns `false` if the deadline passes first.
    pub async fn until(&self, holds_lease: impl Fn() -> bool, deadline: Instant) -> bool {
        loop {
            let granted = self.0.granted.notified();
            // The loop misses no lease that is granted after this point, because `notify_waiters`
            // wakes every future that already exists.
            if holds_lease() {
                return true;
            }
            if timeout_at(deadline, granted).await.is_err() {
                return false;
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ServerId = ServerId::started_at(1);
    const NEW: ServerId = ServerId::started_at(2);

    #[test]
    fn only_the_current_session_grants_a_lease() {
        let held = HeldSession::default();
        let first = held.begin(OLD);
        assert!(held.grant(first, || {}));
        let second = held.begin(OLD);
        assert!(!held.grant(first, || panic!("the first session was replaced")));
        assert!(held.grant(second, || {}));
    }

    #[test]
    fn session_ends_when_a_change_is_committed_on_another_server() {
        let held = HeldSession::default();
        let old = held.begin(OLD);
        held.committed_on(OLD, || panic!("the change was committed on the server of the session"));
        let mut ended = false;
        held.committed_on(NEW, || ended = true);
        assert!(ended);
        assert!(!held.grant(old, || panic!("a renewal that arrives later grants nothing")));
        let new = held.begin(NEW);
        assert!(held.grant(new, || {}));
    }

    #[test]
    fn number_of_waiting_requests_is_limited() {
        let held = HeldSession::default();
        let mut all: Vec<_> = (0..MAX_WAITING).map(|_| held.wait()).collect();
        assert!(all.iter().all(Option::is_some) && held.wait().is_none());
        all.pop();
        assert!(held.wait().is_some());
    }
}
