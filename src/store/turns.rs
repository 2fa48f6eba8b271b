//! Queues requests for the pool's connections, and serves them round-robin by tenant. So a tenant
//! with many requests does not delay other tenants. A few connections are reserved for urgent
//! requests.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::domain::id::TenantId;

/// One in this many connections is reserved.
const RESERVED_OF: u32 = 8;

/// The busiest tenant leaves one in this many connections for other tenants.
const LEFT_OF: u32 = 4;

/// Maximum number of reserved connections.
const MAX_RESERVE: u32 = 4;

tokio::task_local! {
    static REQUEST: Request;
}

/// The tenant of a request, and whether the request is urgent.
#[derive(Default)]
struct Request {
    tenant: Cell<Option<TenantId>>,
    urgent: Cell<bool>,
}

/// Runs a request or a part of a request. Its statements wait in the queue of `tenant`. `None`
/// means that the tenant is not known yet. [`set_tenant`] can set it later.
pub fn of_request<F: Future>(
    tenant: Option<TenantId>,
    request: F,
) -> impl Future<Output = F::Output> {
    REQUEST.scope(Request { tenant: Cell::new(tenant), ..Request::default() }, request)
}

/// Sets the tenant. Later statements of the request wait in the queue of this tenant.
pub fn set_tenant(tenant: TenantId) {
    // Outside of a request, statements wait in the queue for work without a tenant.
    let _ = REQUEST.try_with(|request| request.tenant.set(Some(tenant)));
}

/// Marks the request as urgent, so that its later statements can use the reserve. Urgent requests
/// are revocations, requests that disable a key or suspend an account, and readiness checks.
pub(super) fn hurry() {
    // Work outside of a request is never urgent.
    let _ = REQUEST.try_with(|request| request.urgent.set(true));
}

/// Slots for concurrent work, assigned round-robin by tenant. One tenant never gets all slots.
pub struct Places(Arc<Lanes>);

impl Places {
    /// Waits for a slot.
    pub async fn take(&self, tenant: TenantId) -> Turn {
        self.0.take(Some(tenant)).await
    }
}

/// The queues for a pool's connections.
pub(super) struct Turns {
    ordinary: Arc<Lanes>,
    /// The reserved connections. `None` if the pool has only one connection.
    reserve: Option<Arc<Lanes>>,
}

/// The right to use one connection. Dropping the turn gives its slot to the next waiting request.
pub struct Turn(Option<(Arc<Lanes>, Lane)>);

/// Slots that are assigned round-robin by tenant. Each tenant waits in its own lane.
struct Lanes {
    places: u32,
    /// Maximum number of slots of one lane, so that a tenant whose requests all wait for a lock
    /// leaves slots for other tenants.
    per_lane: u32,
    waiting: Mutex<Waiting>,
}

/// The lane of a tenant. `None` is the lane for work without a tenant, such as a background job.
type Lane = Option<TenantId>;

struct Waiting {
    free: u32,
    /// The waiting lanes in the order in which they are served. Each lane occurs once.
    order: VecDeque<Lane>,
    lanes: HashMap<Lane, Queue>,
}

/// A lane that has slots or waits for slots.
#[derive(Default)]
struct Queue {
    places: u32,
    /// One sender for each waiting request. The sender of a request that has stopped waiting stays
    /// until it reaches the front.
    requests: VecDeque<oneshot::Sender<Turn>>,
}

impl Turns {
    pub(super) fn new(connections: u32) -> Self {
        let reserved = (connections / RESERVED_OF).clamp(1, MAX_RESERVE).min(connections - 1);
        Self {
            ordinary: Lanes::new(connections - reserved),
            reserve: (reserved > 0).then(|| Lanes::new(reserved)),
        }
    }

    /// Creates a limit on concurrent operations that may need a connection: one slot for each
    /// connection outside the reserve.
    pub(super) fn places(&self) -> Places {
        Places(Lanes::new(self.ordinary.places))
    }

    /// Waits in the queue of the current request's tenant.
    pub(super) async fn take(&self) -> Turn {
        let request = REQUEST.try_with(|request| (request.tenant.get(), request.urgent.get()));
        let (lane, urgent) = request.unwrap_or_default();
        if let Some(reserve) = self.reserve.as_ref().filter(|_| urgent) {
            if let Some(turn) = self.ordinary.try_take(lane) {
                return turn;
            }
            return reserve.take(lane).await;
        }
        self.ordinary.take(lane).await
    }
}

impl Lanes {
    fn new(places: u32) -> Arc<Self> {
        let (order, lanes) = (VecDeque::new(), HashMap::new());
        Arc::new(Self {
            places,
            per_lane: places - (places / LEFT_OF).max(1).min(places - 1),
            waiting: Mutex::new(Waiting { free: places, order, lanes }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_take(self: &Arc<Self>, lane: Lane) -> Option<Turn> {
        let mut waiting = self.lock();
        let free = waiting.free.checked_sub(1)?;
        let queue = waiting.lanes.entry(lane).or_default();
        if queue.places == self.per_lane {
            return None;
        }
        queue.places += 1;
        waiting.free = free;
        Some(Turn(Some((Arc::clone(self), lane))))
    }

    async fn take(self: &Arc<Self>, lane: Lane) -> Turn {
        if let Some(turn) = self.try_take(lane) {
            return turn;
        }
        let (sender, turn) = oneshot::channel();
        {
            let mut waiting = self.lock();
            let queue = waiting.lanes.entry(lane).or_default();
            queue.requests.push_back(sender);
            if queue.requests.len() == 1 {
                waiting.order.push_back(lane);
            }
            // A slot may have become free in the meantime.
            self.pass_on(&mut waiting);
        }
        turn.await.expect("every waiting caller gets a turn")
    }

    fn give_back(self: &Arc<Self>, lane: Lane) {
        let mut waiting = self.lock();
        waiting.free += 1;
        let queue = waiting.lanes.get_mut(&lane).expect("a lane with a slot has a queue");
        queue.places -= 1;
        if queue.places == 0 && queue.requests.is_empty() {
            waiting.lanes.remove(&lane);
        }
        self.pass_on(&mut waiting);
    }

    /// Gives the free slots to the first requests of the next lanes that are below their maximum.
    fn pass_on(self: &Arc<Self>, waiting: &mut Waiting) {
        while waiting.free > 0 {
            let Waiting { order, lanes, .. } = waiting;
            let may_have_more = |lane: &Lane| lanes[lane].places < self.per_lane;
            let Some(next) = order.iter().position(may_have_more) else { return };
            let lane = order.remove(next).expect("this is a position");
            let queue = lanes.get_mut(&lane).expect("a lane in the order has a queue");
            let first = queue.requests.pop_front().expect("a lane in the order has a request");
            if !queue.requests.is_empty() {
                order.push_back(lane);
            }
            match first.send(Turn(Some((Arc::clone(self), lane)))) {
                Ok(()) => {
                    queue.places += 1;
                    waiting.free -= 1;
                }
                // The request has stopped waiting.
                Err(mut turn) => {
                    turn.0 = None;
                    if queue.places == 0 && queue.requests.is_empty() {
                        lanes.remove(&lane);
                    }
                }
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some((gate, lane)) = self.0.take() {
            gate.give_back(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use uuid::Uuid;

    use super::*;

    type Taking<'a> = Pin<Box<dyn Future<Output = Turn> + 'a>>;

    fn tenant(number: u128) -> TenantId {
        TenantId::from_uuid(Uuid::from_u128(number))
    }

    /// Starts to wait for a turn of a tenant.
    fn wait<'a>(turns: &'a Turns, of: u128, urgent: bool) -> Taking<'a> {
        let mut taking: Taking<'a> = Box::pin(of_request(Some(tenant(of)), async move {
            if urgent {
                hurry();
            }
            turns.take().await
        }));
        assert!(poll(&mut taking).is_none(), "it waits");
        taking
    }

    fn poll(taking: &mut Taking<'_>) -> Option<Turn> {
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn tenants_are_served_round_robin_even_if_one_of_them_has_many_requests() {
        let turns = Turns::new(2);
        let mut held = turns.take().await;
        let waiting = [1, 1, 1, 1, 1, 2, 2].map(|of| (of, wait(&turns, of, false)));
        let mut waiting = Vec::from(waiting);
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held);
            let ready = |(index, (_, taking)): (usize, &mut (u128, Taking<'_>))| {
                Some((index, poll(taking)?))
            };
            let (index, turn) =
                waiting.iter_mut().enumerate().find_map(ready).expect("one has the turn");
            held = turn;
            order.push(waiting.remove(index).0);
        }
        assert_eq!(order, [1, 2, 1, 2, 1, 1, 1]);
    }

    #[tokio::test]
    async fn slot_of_a_request_that_stopped_waiting_is_given_to_the_next() {
        let turns = Turns::new(2);
        let held = turns.take().await;
        let gone = wait(&turns, 1, false);
        let mut next = wait(&turns, 1, false);
        drop(gone);
        drop(held);
        let held = poll(&mut next).expect("its turn");
        // A turn that was granted but never received is also passed on.
        let given = wait(&turns, 1, false);
        let mut last = wait(&turns, 2, false);
        drop(held);
        drop(given);
        assert!(poll(&mut last).is_some());
    }

    #[tokio::test]
    async fn urgent_request_uses_the_reserve_if_no_ordinary_connection_is_free() {
        let turns = Turns::new(2);
        let held = turns.take().await;
        let urgent = of_request(Some(tenant(2)), async {
            hurry();
            turns.take().await
        });
        let urgent = urgent.await;
        let mut ordinary = wait(&turns, 3, false);
        let mut second = wait(&turns, 4, true);
        drop(urgent);
        assert!(poll(&mut ordinary).is_none(), "the reserve is for urgent requests");
        assert!(poll(&mut second).is_some());
        drop(held);
        assert!(poll(&mut ordinary).is_some());
    }

    #[tokio::test]
    async fn tenant_whose_requests_never_end_leaves_a_connection_for_others() {
        let turns = Turns::new(16);
        let mut held = Vec::new();
        for _ in 0..11 {
            held.push(of_request(Some(tenant(1)), turns.take()).await);
        }
        let mut more = wait(&turns, 1, false);
        let other = of_request(Some(tenant(2)), turns.take()).await;
        drop(other);
        assert!(poll(&mut more).is_none());
        held.pop();
        assert!(poll(&mut more).is_some());
    }

    #[test]
    fn pool_of_one_connection_has_no_reserve_and_a_large_pool_has_a_small_reserve() {
        let free = |connections| {
            let turns = Turns::new(connections);
            let reserve = turns.reserve.map(|reserve| reserve.lock().free);
            (turns.ordinary.lock().free, reserve)
        };
        assert_eq!(free(1), (1, None));
        assert_eq!(free(2), (1, Some(1)));
        assert_eq!(free(16), (14, Some(2)));
        assert_eq!(free(1000), (996, Some(4)));
    }
}
