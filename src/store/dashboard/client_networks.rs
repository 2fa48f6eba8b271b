use std::net::IpAddr;

/// The networks of a client. Rate limits count the requests of each network.
#[derive(Debug)]
pub struct ClientNetworks {
    /// An IPv4 address, or the first 64 bits of an IPv6 address. One client usually controls a
    /// network of this size.
    pub client: String,
    /// The first 56 bits of an IPv6 address, which a provider usually assigns to a household.
    pub network_56: Option<String>,
    /// The first 48 bits of an IPv6 address, which a provider usually assigns to a company.
    pub network_48: Option<String>,
}

impl ClientNetworks {
    /// Derives the networks from the address of a client. All clients with an unknown address count
    /// as one client.
    pub fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::only(address.to_string()),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self {
                    client: format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"),
                    network_56: Some(format!("{a:x}:{b:x}:{c:x}:{:x}::/56", d & 0xff00)),
                    network_48: Some(format!("{a:x}:{b:x}:{c:x}::/48")),
                }
            }
            None => Self::only("unknown".to_owned()),
        }
    }

    fn only(client: String) -> Self {
        Self { client, network_56: None, network_48: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks_of(address: &str) -> ClientNetworks {
        ClientNetworks::of(Some(address.parse().expect("an address")))
    }

    #[test]
    fn client_is_an_ipv4_address_or_an_ipv6_64_network() {
        for (address, client) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("::1", "0:0:0:0::/64"),
        ] {
            assert_eq!(networks_of(address).client, client);
        }
        assert_eq!(ClientNetworks::of(None).client, "unknown");
    }

    #[test]
    fn only_ipv6_addresses_have_larger_networks() {
        for (address, network_56, network_48) in [
            ("2001:db8:1:2ff::1", "2001:db8:1:200::/56", "2001:db8:1::/48"),
            ("2001:db8:1:ff00::1", "2001:db8:1:ff00::/56", "2001:db8:1::/48"),
            ("2001:db8:1:ff::1", "2001:db8:1:0::/56", "2001:db8:1::/48"),
        ] {
            let networks = networks_of(address);
            assert_eq!(networks.network_56.as_deref(), Some(network_56), "{address}");
            assert_eq!(networks.network_48.as_deref(), Some(network_48), "{address}");
        }
        for networks in
            [networks_of("192.0.2.7"), networks_of("::ffff:192.0.2.7"), ClientNetworks::of(None)]
        {
            assert_eq!((networks.network_56, networks.network_48), (None, None));
        }
    }
}
