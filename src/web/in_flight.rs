//! Limits the requests in flight of one API key or one dashboard session.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::response::Response;
use uuid::Uuid;

/// Counts the requests in flight by the id of the API key or the session.
#[derive(Clone)]
pub struct InFlight(Arc<Counts>);

struct Counts {
    max: usize,
    by_id: Mutex<HashMap<Uuid, usize>>,
}

impl InFlight {
    /// Allows at most `max` requests in flight per id.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Counts { max, by_id: Mutex::default() }))
    }

    /// Counts one more request, or returns `None` if the id has reached the maximum.
    #[must_use]
    pub fn enter(&self, id: Uuid) -> Option<Entered> {
        let mut by_id = self.lock();
        let number = by_id.entry(id).or_insert(0);
        if *number >= self.0.max {
            return None;
        }
        *number += 1;
        drop(by_id);
        Some(Entered { of: self.clone(), id })
    }

    /// Returns the maximum number of requests in flight per id.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.0.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight, until this value is dropped.
pub struct Entered {
    of: InFlight,
    id: Uuid,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut by_id = self.of.lock();
        if let Some(number) = by_id.get_mut(&self.id) {
            *number -= 1;
            if *number == 0 {
                by_id.remove(&self.id);
            }
        }
    }
}

/// A value in the extensions of a response. The connection drops the value once it has handed the
/// response to the socket.
#[derive(Clone)]
pub struct HeldUntilSent {
    _held: Arc<dyn Any + Send + Sync>,
}

impl HeldUntilSent {
    /// Keeps the request in flight until its response has been handed to the socket.
    pub fn attach(response: &mut Response, entered: Entered) {
        response.extensions_mut().insert(Self { _held: Arc::new(entered) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_its_own_limit_and_completed_requests_free_their_slots() {
        let in_flight = InFlight::new(2);
        let [a, b] = [1, 2].map(Uuid::from_u128);
        let first = in_flight.enter(a);
        let second = in_flight.enter(a);
        assert!(first.is_some() && second.is_some() && in_flight.enter(a).is_none());
        assert!(in_flight.enter(b).is_some());
        let mut response = Response::default();
        HeldUntilSent::attach(&mut response, first.expect("a slot"));
        assert!(in_flight.enter(a).is_none());
        drop(response);
        let third = in_flight.enter(a);
        assert!(third.is_some());
        drop((second, third));
        assert!(in_flight.lock().is_empty());
    }
}
