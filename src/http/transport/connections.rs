//! The connections of a listener. Decides whether to admit a new connection, and which idle
//! connection to close for it.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::time::Instant;
use tracing::warn;

use super::{connection::ConnectionState, limits::ServerLimits};

/// Number of connections beyond the limit, for health checks. Each gets one response.
pub const RESERVE: usize = 20;

/// One address may have one fifth of all connections, and one fifth of the reserve.
const SHARE: usize = 5;

/// Maximum number of idle connections that one search returns. A search scans all connections, so
/// it collects several.
const FOUND_AT_ONCE: usize = 64;

/// Minimum time between two warnings that the listener is full.
const WARN_AFTER: Duration = Duration::from_secs(60);

/// The connections of a listener.
pub struct Connections {
    max: usize,
    max_per_address: usize,
    epoch: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    open: HashMap<u64, Open>,
    ordinary: Places,
    reserve: Places,
    /// The ids of idle connections and the start of their idle phase, the longest idle first. An
    /// entry is outdated if the connection has been used since.
    idle: VecDeque<(u64, u64)>,
    warned_at: Option<Instant>,
    refused: u64,
}

struct Open {
    state: Arc<ConnectionState>,
    address: Option<IpAddr>,
    in_reserve: bool,
}

/// Counts the connections, in total and per address.
#[derive(Default)]
struct Places {
    taken: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn of(&self, address: Option<IpAddr>) -> usize {
        address.and_then(|address| self.by_address.get(&address)).copied().unwrap_or(0)
    }

    fn take(&mut self, address: Option<IpAddr>) {
        self.taken += 1;
        if let Some(address) = address {
            *self.by_address.entry(address).or_default() += 1;
        }
    }

    fn give_back(&mut self, address: Option<IpAddr>) {
        self.taken -= 1;
        if let Some(address) = address
            && let Some(number) = self.by_address.get_mut(&address)
        {
            *number -= 1;
            if *number == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// A slot for one connection. Dropping the value frees the slot.
pub struct Place {
    pub state: Arc<ConnectionState>,
    /// Whether the connection is beyond the limit. If so, it gets only one response, which is a
    /// 503 unless the request is a health check.
    pub in_reserve: bool,
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

impl Connections {
    /// Creates an empty set, which admits as many connections as `limits` allows.
    #[must_use]
    pub fn new(limits: &ServerLimits) -> Arc<Self> {
        let max = limits.max_connections;
        let share = (max / SHARE).max(1);
        Arc::new(Self {
            max,
            max_per_address: limits.max_connections_per_address.unwrap_or(share),
            epoch: Instant::now(),
            inner: Mutex::default(),
        })
    }

    /// Updates the metrics of open and idle connections.
    pub fn set_gauges(&self) {
        let number = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let (open, idle) = self.counts();
        gauge!("tollgate_connections", "state" => "open").set(number(open));
        gauge!("tollgate_connections", "state" => "idle").set(number(idle));
    }

    /// Returns the number of open connections, and the number of idle connections among them.
    fn counts(&self) -> (usize, usize) {
        let inner = self.lock();
        let idle = inner.open.values().filter(|open| open.state.idle_since().is_some()).count();
        (inner.open.len(), idle)
    }

    /// Returns a slot for a new connection, or `None` if the reserve is full too. If the limit is
    /// reached, closes the longest idle connection to make room. `exempt` is for a trusted proxy,
    /// which has no limit per address because it serves many clients.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, exempt: bool) -> Option<Place> {
        let address = (!exempt).then(|| network_of(peer));
        let mut inner = self.lock();
        let has_share = |inner: &Inner| inner.ordinary.of(address) >= self.max_per_address;
        // An address at its limit can only replace its own idle connections.
        let only_of = if has_share(&inner) { address } else { None };
        let full = inner.ordinary.taken >= self.max && !inner.close_longest_idle(only_of);
        let beyond_share = has_share(&inner);
        let in_reserve = full || beyond_share;
        if in_reserve {
            inner.refused += 1;
            counter!("tollgate_connections_refused_total").increment(1);
            inner.warn(if full { "all connections are busy" } else { "address limit reached" });
            let reserve = &inner.reserve;
            if reserve.taken >= RESERVE || reserve.of(address) >= RESERVE / SHARE {
                return None;
            }
        }
        let state = Arc::new(ConnectionState::new(self.epoch));
        let id = inner.insert(Open { state: Arc::clone(&state), address, in_reserve });
        drop(inner);
        Some(Place { state, in_reserve, id, connections: Arc::clone(self) })
    }

    /// Closes each connection after its request in flight.
    pub(super) fn close_all(&self) {
        for open in self.lock().open.values() {
            open.state.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, open: Open) -> u64 {
        self.next_id += 1;
        self.places(open.in_reserve).take(open.address);
        self.open.insert(self.next_id, open);
        self.next_id
    }

    fn remove(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            self.places(open.in_reserve).give_back(open.address);
        }
    }

    fn places(&mut self, in_reserve: bool) -> &mut Places {
        if in_reserve { &mut self.reserve } else { &mut self.ordinary }
    }

    /// Closes the longest idle connection. With `only_of`, closes it only if it comes from this
    /// address. Frees the slot before the connection has closed.
    fn close_longest_idle(&mut self, only_of: Option<IpAddr>) -> bool {
        let mut searched = false;
        loop {
            while let Some((id, since)) = self.idle.pop_front() {
                // The connection may have had another request since, or may be closed.
                let idle = self.open.get(&id).filter(|open| open.state.idle_since() == Some(since));
                if let Some(open) = idle {
                    if only_of.is_some() && only_of != open.address {
                        self.idle.push_front((id, since));
                        return false;
                    }
                    open.state.close();
                    self.remove(id);
                    return true;
                }
            }
            if searched {
                return false;
            }
            searched = true;
            self.find_idle();
        }
    }

    fn find_idle(&mut self) {
        let ordinary = self.open.iter().filter(|(_, open)| !open.in_reserve);
        let idle = ordinary.filter_map(|(id, open)| Some((open.state.idle_since()?, *id)));
        let mut idle: Vec<(u64, u64)> = idle.collect();
        if idle.len() > FOUND_AT_ONCE {
            idle.select_nth_unstable(FOUND_AT_ONCE - 1);
            idle.truncate(FOUND_AT_ONCE);
        }
        idle.sort_unstable();
        self.idle.extend(idle.into_iter().map(|(since, id)| (id, since)));
    }

    fn warn(&mut self, reason: &'static str) {
        if self.warned_at.is_none_or(|warned_at| warned_at.elapsed() >= WARN_AFTER) {
            self.warned_at = Some(Instant::now());
            warn!(
                open = self.open.len(),
                refused = self.refused,
                reason,
                "connections are refused. See TOLLGATE_MAX_CONNECTIONS and \
                 TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS"
            );
            self.refused = 0;
        }
    }
}

/// Returns the network that one client controls: an IPv4 address, or an IPv6 /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max_connections: usize, per_address: Option<usize>) -> Arc<Connections> {
        Connections::new(&ServerLimits {
            max_connections,
            max_connections_per_address: per_address,
            ..ServerLimits::default()
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn address_beyond_its_limit_gets_only_a_part_of_the_reserve() {
        let connections = connections(20, None);
        let crowd = address("2001:db8::1");
        let neighbour = address("2001:db8::ffff:0:0:2");
        let ordinary: Vec<_> =
            [crowd, neighbour, crowd, neighbour].map(|peer| connections.admit(peer, false)).into();
        assert!(ordinary.iter().flatten().all(|place| !place.in_reserve));
        let reserve: Vec<_> = (0..4).map(|_| connections.admit(crowd, false)).collect();
        assert!(reserve.iter().flatten().all(|place| place.in_reserve));
        assert_eq!(reserve.iter().flatten().count(), 4);
        assert!(connections.admit(neighbour, false).is_none());
        let other = connections.admit(address("2001:db8:0:1::1"), false).expect("a slot");
        assert!(!other.in_reserve);
        let proxied: Vec<_> = (0..10).filter_map(|_| connections.admit(crowd, true)).collect();
        assert!(proxied.iter().all(|place| !place.in_reserve));
        drop(ordinary);
        assert!(!connections.admit(crowd, false).expect("a slot").in_reserve);
        assert_eq!(connections.counts(), (15, 0));
    }

    #[tokio::test]
    async fn busy_connection_is_not_closed_for_a_new_connection() {
        let connections = connections(2, Some(2));
        let kept: Vec<_> = (0..2).map(|_| connections.admit(address("192.0.2.1"), false)).collect();
        assert!(connections.admit(address("192.0.2.2"), false).expect("a slot").in_reserve);
        drop(kept);
        assert!(!connections.admit(address("192.0.2.2"), false).expect("a slot").in_reserve);
    }
}
