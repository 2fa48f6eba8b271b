//! Sets of IP addresses, for the comparison of each request's address.

use std::{cmp::Reverse, net::IpAddr};

use ipnet::IpNet;

use super::allowed_ips::AllowedIps;

/// A set of IP addresses. Clones share memory. A search takes a few nanoseconds, even in a set of a
/// hundred networks.
#[derive(Clone, PartialEq, Eq, Debug)]
// This `Arc` has no count of weak references, which saves 8 bytes for each cached key.
pub struct AddressSet(triomphe::Arc<Ranges>);

#[derive(PartialEq, Eq, Debug)]
struct Ranges {
    v4: Box<[Range<u32>]>,
    v6: Box<[Range<u128>]>,
}

/// The first and the last address of a range. The ranges of a set are sorted and do not overlap.
type Range<N> = (N, N);

impl AddressSet {
    /// Returns the addresses of all networks in the list.
    #[must_use]
    pub fn of(list: &AllowedIps) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in list.iter() {
            match network {
                IpNet::V4(network) => {
                    v4.push((network.network().to_bits(), network.broadcast().to_bits()));
                }
                IpNet::V6(network) => {
                    v6.push((network.network().to_bits(), network.broadcast().to_bits()));
                }
            }
        }
        Self::new(merged(v4), merged(v6))
    }

    /// Returns the addresses that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self::new(common(&self.0.v4, &other.0.v4), common(&self.0.v6, &other.0.v6))
    }

    /// Whether the set contains this address. An IPv4-mapped IPv6 address is its IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_in(&self.0.v4, address.to_bits()),
            IpAddr::V6(address) => is_in(&self.0.v6, address.to_bits()),
        }
    }

    fn new(v4: Vec<Range<u32>>, v6: Vec<Range<u128>>) -> Self {
        Self(triomphe::Arc::new(Ranges { v4: v4.into(), v6: v6.into() }))
    }
}

/// Sorts the ranges of networks. Two networks are disjoint, or one of them contains the other, so it
/// is enough to drop ranges inside of others.
fn merged<N: Copy + Ord>(mut ranges: Vec<Range<N>>) -> Vec<Range<N>> {
    ranges.sort_unstable_by_key(|&(first, last)| (first, Reverse(last)));
    ranges.dedup_by(|(_, last), (_, kept)| *last <= *kept);
    ranges
}

fn common<N: Copy + Ord>(mut one: &[Range<N>], mut other: &[Range<N>]) -> Vec<Range<N>> {
    let mut common = Vec::new();
    while let (Some((a, rest_of_one)), Some((b, rest_of_other))) =
        (one.split_first(), other.split_first())
    {
        let (first, last) = (a.0.max(b.0), a.1.min(b.1));
        if first <= last {
            common.push((first, last));
        }
        if a.1 < b.1 {
            one = rest_of_one;
        } else {
            other = rest_of_other;
        }
    }
    common
}

fn is_in<N: Copy + Ord>(ranges: &[Range<N>], address: N) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after > 0 && address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Generates addresses with few different bits, so that networks often contain each other.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let bytes = || prop::sample::select(vec![0, 1, 127, 128, 254, 255_u8]);
        let v4 = prop::array::uniform4(bytes());
        let v6 = (v4.clone(), v4.clone()).prop_map(|(high, low)| {
            let (high, low) = (u32::from_be_bytes(high), u32::from_be_bytes(low));
            Ipv6Addr::from_bits(u128::from(high) << 96 | u128::from(low))
        });
        let v4 = v4.prop_map(Ipv4Addr::from);
        prop_oneof![
            v4.clone().prop_map(IpAddr::V4),
            v4.prop_map(|address| IpAddr::V6(address.to_ipv6_mapped())),
            v6.prop_map(IpAddr::V6),
        ]
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        (addresses(), 0_u8..=128).prop_map(|(address, length)| match address.to_canonical() {
            IpAddr::V4(address) => {
                Ipv4Net::new(address, length % 33).expect("a length").trunc().into()
            }
            IpAddr::V6(address) => Ipv6Net::new(address, length).expect("a length").trunc().into(),
        })
    }

    fn lists() -> impl Strategy<Value = AllowedIps> {
        vec(networks(), 1..=100).prop_map(|list| AllowedIps::new(list).expect("1 to 100 networks"))
    }

    /// The rule as ipnet has it.
    fn is_in_a_network(list: &AllowedIps, address: IpAddr) -> bool {
        list.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Returns addresses at and beside the borders of the networks.
    fn borders(list: &AllowedIps) -> Vec<IpAddr> {
        let beside = |address: IpAddr| match address {
            IpAddr::V4(address) => [-1_i32, 0, 1]
                .map(|step| Ipv4Addr::from_bits(address.to_bits().wrapping_add_signed(step)))
                .map(IpAddr::V4),
            IpAddr::V6(address) => [-1_i128, 0, 1]
                .map(|step| Ipv6Addr::from_bits(address.to_bits().wrapping_add_signed(step)))
                .map(IpAddr::V6),
        };
        let ends = |network: &IpNet| [network.network(), network.broadcast()];
        list.iter().flat_map(ends).flat_map(beside).collect()
    }

    proptest! {
        #[test]
        fn set_contains_an_address_exactly_if_ipnet_finds_it_in_a_network(
            list in lists(), others in vec(addresses(), 50)
        ) {
            let set = AddressSet::of(&list);
            for address in borders(&list).into_iter().chain(others) {
                prop_assert_eq!(set.contains(address), is_in_a_network(&list, address), "{}", address);
            }
        }

        #[test]
        fn intersection_contains_exactly_the_addresses_of_both_lists(
            one in lists(), other in lists(), others in vec(addresses(), 50)
        ) {
            let both = AddressSet::of(&one).intersection(&AddressSet::of(&other));
            for address in borders(&one).into_iter().chain(borders(&other)).chain(others) {
                let expected = is_in_a_network(&one, address) && is_in_a_network(&other, address);
                prop_assert_eq!(both.contains(address), expected, "{}", address);
            }
        }
    }

    #[test]
    fn ipv6_networks_contain_no_ipv4_address() {
        let list = AllowedIps::new(vec!["::/0".parse().expect("a network")]).expect("a list");
        let set = AddressSet::of(&list);
        for (address, expected) in
            [("192.0.2.1", false), ("::ffff:192.0.2.1", false), ("::192.0.2.1", true), ("::", true)]
        {
            assert_eq!(set.contains(address.parse().expect("an address")), expected, "{address}");
        }
    }
}
