//! The clients that used a key, as a node remembers them until the next write.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    domain::{
        key_clients::{
            Client, MAX_REFUSALS, MAX_USER_AGENT_CHARS, NETWORK_BITS_V4, NETWORK_BITS_V6,
        },
        usage::UsageOutcome,
    },
    store::{RefusedClient, UsedClient, UsedClients},
};

/// Maximum number of networks of a key between two writes. Uses from further networks are not
/// recorded until the next write.
const MAX_NETWORKS: usize = 8;

/// Maximum length of a user agent in bytes. The store keeps its first 100 characters.
const MAX_USER_AGENT: usize = 400;

/// A copy of a [`Client`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub address: Option<IpAddr>,
    pub user_agent: Box<[u8]>,
    pub route: Box<str>,
}

/// The client that used a key last, and the time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LastUse {
    pub client: Seen,
    pub at: Duration,
}

/// The uses of a key from a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NetworkUse {
    pub network: IpNet,
    pub first: Duration,
    pub last: Duration,
}

/// Equal refusals of a client, one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub client: Seen,
    pub outcome: UsageOutcome,
    pub first: Duration,
    pub last: Duration,
    pub count: i64,
}

/// The clients of a key since the last write. Times are from this machine's clock since boot.
#[derive(Default, Debug)]
pub(super) struct Clients {
    /// The last client that was accepted. It stays here after a write, so that the next request of
    /// the same client needs no copy.
    last: Option<LastUse>,
    /// Whether `last` has not been written yet.
    is_new: bool,
    networks: Vec<NetworkUse>,
    refusals: VecDeque<Refused>,
}

/// The clients of a key that were taken for writing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct TakenClients {
    pub last: Option<LastUse>,
    pub networks: Vec<NetworkUse>,
    /// Oldest first.
    pub refusals: Vec<Refused>,
}

impl Seen {
    fn copy(client: &Client<'_>) -> Self {
        Self {
            address: client.address.map(|address| address.to_canonical()),
            user_agent: cut(client.user_agent).into(),
            route: client.route.into(),
        }
    }

    /// Whether this is a copy of the client.
    fn is(&self, client: &Client<'_>) -> bool {
        self.address == client.address.map(|address| address.to_canonical())
            && are_equal(&self.user_agent, cut(client.user_agent))
            && are_equal(self.route.as_bytes(), client.route.as_bytes())
    }

    fn used(&self) -> UsedClient {
        let text = String::from_utf8_lossy(&self.user_agent);
        // A header may contain tabs.
        let text = text.chars().filter(|character| !character.is_control());
        let user_agent: String = text.take(MAX_USER_AGENT_CHARS).collect();
        UsedClient {
            address: self.address,
            user_agent: (!user_agent.is_empty()).then_some(user_agent),
            route: self.route.to_string(),
        }
    }
}

impl TakenClients {
    /// Converts the times into ages at `now`, as the store records them.
    pub fn used(&self, now: Duration) -> UsedClients {
        let age = |at: Duration| now.saturating_sub(at);
        let network = |used: &NetworkUse| (used.network, age(used.first), age(used.last));
        let refused = |refused: &Refused| RefusedClient {
            client: refused.client.used(),
            outcome: refused.outcome,
            first: age(refused.first),
            last: age(refused.last),
            count: refused.count,
        };
        UsedClients {
            last: self.last.as_ref().map(|last| (last.client.used(), age(last.at))),
            networks: self.networks.iter().map(network).collect(),
            refusals: self.refusals.iter().map(refused).collect(),
        }
    }
}

impl Clients {
    /// Records an accepted request.
    pub fn accepted(&mut self, client: &Client<'_>, now: Duration) {
        self.is_new = true;
        match &mut self.last {
            Some(last) if last.client.is(client) => last.at = now,
            last => *last = Some(LastUse { client: Seen::copy(client), at: now }),
        }
        if let Some(address) = client.address {
            self.used_from(&NetworkUse { network: network_of(address), first: now, last: now });
        }
    }

    /// Records a refused request. Returns the number of refusals by which the record has grown, so
    /// that the caller can limit their total. Without `has_room`, the new refusal replaces the
    /// oldest one of the key.
    pub fn refused(
        &mut self,
        client: &Client<'_>,
        outcome: UsageOutcome,
        now: Duration,
        has_room: bool,
    ) -> usize {
        if let Some(newest) = self.refusals.back_mut()
            && newest.outcome == outcome
            && newest.client.is(client)
        {
            newest.last = now;
            newest.count += 1;
            return 0;
        }
        let may_grow = has_room && self.refusals.len() < MAX_REFUSALS;
        if !may_grow && self.refusals.pop_front().is_none() {
            return 0;
        }
        let client = Seen::copy(client);
        self.refusals.push_back(Refused { client, outcome, first: now, last: now, count: 1 });
        usize::from(may_grow)
    }

    /// Takes what has not been written yet.
    pub fn take(&mut self) -> TakenClients {
        let last = self.last.clone().filter(|_| std::mem::take(&mut self.is_new));
        // The list keeps its memory, so that the next request needs none.
        let networks = self.networks.drain(..).collect();
        TakenClients { last, networks, refusals: std::mem::take(&mut self.refusals).into() }
    }

    /// Puts back what could not be written. What was recorded since then is newer. Returns the
    /// number of refusals that became part of this record, at most `room`.
    pub fn put_back(&mut self, taken: &TakenClients, room: usize) -> usize {
        if self.last.is_none() {
            self.last.clone_from(&taken.last);
        }
        self.is_new |= taken.last.is_some();
        for network in &taken.networks {
            self.used_from(network);
        }
        let before = self.refusals.len();
        let room = room.min(MAX_REFUSALS - before);
        for refused in taken.refusals.iter().rev().take(room) {
            self.refusals.push_front(refused.clone());
        }
        self.refusals.len() - before
    }

    fn used_from(&mut self, used: &NetworkUse) {
        let has_room = self.networks.len() < MAX_NETWORKS;
        match self.networks.iter_mut().rev().find(|known| known.network == used.network) {
            Some(known) => {
                known.first = known.first.min(used.first);
                known.last = known.last.max(used.last);
            }
            None if has_room => self.networks.push(used.clone()),
            None => {}
        }
    }
}

/// Compares texts. For empty texts, the comparison of slices calls `memcmp` with their dangling
/// address, which took 140 ns in the benchmark.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    one.is_empty() && other.is_empty() || one == other
}

fn cut(user_agent: &[u8]) -> &[u8] {
    &user_agent[..user_agent.len().min(MAX_USER_AGENT)]
}

/// Returns the network of an address, as the store records it.
fn network_of(address: IpAddr) -> IpNet {
    // A constant length is always valid.
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX << (32 - u32::from(NETWORK_BITS_V4));
            let address = Ipv4Addr::from_bits(address.to_bits() & mask);
            IpNet::new_assert(address.into(), NETWORK_BITS_V4)
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - u32::from(NETWORK_BITS_V6));
            let address = Ipv6Addr::from_bits(address.to_bits() & mask);
            IpNet::new_assert(address.into(), NETWORK_BITS_V6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(address: &str) -> Client<'_> {
        let address = address.parse().ok();
        Client { address, user_agent: b"bot/1", route: "/v1/me" }
    }

    fn addresses(refusals: &[Refused]) -> Vec<String> {
        let address = |refused: &Refused| refused.client.address.expect("an address").to_string();
        refusals.iter().map(address).collect()
    }

    #[test]
    fn last_client_and_its_network_are_taken_once_after_each_use() {
        let mut clients = Clients::default();
        clients.accepted(&client("203.0.113.7"), SECOND);
        clients.accepted(&client("203.0.113.9"), 2 * SECOND);
        let taken = clients.take();
        let last = taken.last.expect("the key was used");
        assert_eq!((last.client, last.at), (Seen::copy(&client("203.0.113.9")), 2 * SECOND));
        let network = "203.0.113.0/24".parse().expect("a network");
        assert_eq!(taken.networks, [NetworkUse { network, first: SECOND, last: 2 * SECOND }]);
        assert_eq!(clients.take(), TakenClients::default());
        // An IPv4-mapped address is the same client.
        assert!(Seen::copy(&client("203.0.113.9")).is(&client("::ffff:203.0.113.9")));
        assert_eq!(Seen::copy(&client("::ffff:203.0.113.9")), Seen::copy(&client("203.0.113.9")));

        clients.accepted(&client("203.0.113.9"), 5 * SECOND);
        let taken = clients.take();
        assert_eq!(taken.last.expect("the key was used").at, 5 * SECOND);
        assert_eq!(taken.networks, [NetworkUse { network, first: 5 * SECOND, last: 5 * SECOND }]);
    }

    #[test]
    fn networks_are_24_bits_of_ipv4_and_48_bits_of_ipv6_and_limited_in_number() {
        let mut clients = Clients::default();
        for address in ["203.0.113.255", "::ffff:203.0.113.1", "2001:db8:1:ffff::1", "::1"] {
            clients.accepted(&client(address), SECOND);
        }
        let networks: Vec<String> =
            clients.take().networks.iter().map(|used| used.network.to_string()).collect();
        assert_eq!(networks, ["203.0.113.0/24", "2001:db8:1::/48", "::/48"]);
        for number in 0..=255 {
            clients.accepted(&client(&format!("10.0.{number}.1")), SECOND);
        }
        assert_eq!(clients.take().networks.len(), MAX_NETWORKS);
        clients.accepted(&client("unknown"), SECOND);
        assert_eq!(clients.take().networks, []);
    }

    #[test]
    fn equal_refusals_in_a_row_are_counted_together() {
        let mut clients = Clients::default();
        let revoked = UsageOutcome::Revoked;
        let mut grown = 0;
        for (address, outcome, at) in [
            ("203.0.113.7", revoked, 1),
            ("203.0.113.7", revoked, 2),
            ("203.0.113.7", UsageOutcome::RateLimited, 3),
            ("203.0.113.8", revoked, 4),
            ("203.0.113.7", revoked, 5),
        ] {
            grown += clients.refused(&client(address), outcome, at * SECOND, true);
        }
        assert_eq!(grown, 4);
        let taken = clients.take().refusals;
        let counts: Vec<_> = taken.iter().map(|refused| (refused.outcome, refused.count)).collect();
        let limited = UsageOutcome::RateLimited;
        assert_eq!(counts, [(revoked, 2), (limited, 1), (revoked, 1), (revoked, 1)]);
        assert_eq!((taken[0].first, taken[0].last), (SECOND, 2 * SECOND));
    }

    #[test]
    fn newest_refusals_are_kept_if_there_are_too_many() {
        let mut clients = Clients::default();
        let addresses_of = |numbers: std::ops::Range<usize>| -> Vec<String> {
            numbers.map(|number| format!("10.0.0.{number}")).collect()
        };
        let mut refuse = |number: usize, has_room: bool| {
            let address = format!("10.0.0.{number}");
            clients.refused(&client(&address), UsageOutcome::Revoked, SECOND, has_room)
        };
        let grown: usize = (0..MAX_REFUSALS + 20).map(|number| refuse(number, true)).sum();
        assert_eq!(grown, MAX_REFUSALS);
        assert_eq!(refuse(MAX_REFUSALS + 20, false), 0);
        let taken = clients.take().refusals;
        assert_eq!(addresses(&taken), addresses_of(21..MAX_REFUSALS + 21));
        // Without room, a key without refusals records none.
        assert_eq!(clients.refused(&client("::1"), UsageOutcome::Revoked, SECOND, false), 0);
        assert_eq!(clients.take().refusals, []);
    }

    #[test]
    fn what_could_not_be_written_is_taken_again_before_newer_records() {
        let mut clients = Clients::default();
        clients.accepted(&client("203.0.113.7"), SECOND);
        clients.refused(&client("10.0.0.1"), UsageOutcome::Revoked, SECOND, true);
        clients.refused(&client("10.0.0.2"), UsageOutcome::Revoked, SECOND, true);
        let taken = clients.take();
        clients.accepted(&client("203.0.113.8"), 2 * SECOND);
        clients.refused(&client("10.0.0.3"), UsageOutcome::Revoked, 2 * SECOND, true);
        assert_eq!(clients.put_back(&taken, 1), 1);
        let again = clients.take();
        assert_eq!(again.last.expect("the key was used").at, 2 * SECOND);
        assert_eq!((again.networks[0].first, again.networks[0].last), (SECOND, 2 * SECOND));
        assert_eq!(addresses(&again.refusals), ["10.0.0.2", "10.0.0.3"]);

        // Another entry of the key may have replaced this one.
        let mut other = Clients::default();
        assert_eq!(other.put_back(&taken, 100), 2);
        assert_eq!(other.take(), taken);
    }

    #[test]
    fn user_agent_is_stored_as_at_most_100_printable_characters() {
        let used = |user_agent: &[u8]| {
            let client = Client { user_agent, ..client("::1") };
            Seen::copy(&client).used().user_agent
        };
        assert_eq!(used(b"bot/1"), Some("bot/1".to_owned()));
        assert_eq!(used(b""), None);
        assert_eq!(used(b"\t"), None);
        assert_eq!(used("ü\t".repeat(150).as_bytes()), Some("ü".repeat(100)));
        assert_eq!(used(b"\xff"), Some("\u{fffd}".to_owned()));
        // Texts with the same beginning are the same client.
        let long = [b'a'; 1000];
        let client = Client { user_agent: &long, ..client("::1") };
        assert!(Seen::copy(&client).is(&Client { user_agent: &long[..500], ..client }));
    }
}
