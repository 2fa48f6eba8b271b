//! Determines the client's address behind a proxy. Reads `X-Forwarded-For` only if the request
//! comes from a trusted proxy.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::domain::allowed_ips::parse_any_network;

/// Maximum number of entries to read. No real request goes through more proxies than this.
const MAX_ENTRIES: usize = 32;

/// The proxies that are trusted to name the client. Empty by default.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Parses a comma-separated list of addresses and networks, such as `127.0.0.1,fd00::/8`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let networks = text.split(',').map(|network| parse_any_network(network.trim()));
        networks.collect::<Option<_>>().map(Self)
    }

    /// Whether this is the address of a trusted proxy.
    pub(super) fn include(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the client address for a request that came from the trusted proxy `peer`. Each proxy
    /// appends the address of its peer, so an entry can be trusted only if all entries to its right
    /// are trusted proxies. If an entry is malformed, the proxy that wrote it counts as the client.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        let mut client = peer;
        for entry in entries.take(MAX_ENTRIES) {
            let Some(address) = read_entry(entry) else { break };
            client = address;
            if !self.include(address) {
                break;
            }
        }
        client
    }
}

/// Parses an address. It may have a port, and an IPv6 address may have brackets.
fn read_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry.trim_ascii()).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || {
        let text = text.strip_prefix('[')?.strip_suffix(']')?;
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = bare().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    /// Returns the client of a request from [`PROXY`], if `10.0.0.0/8` and `fd00::/8` are trusted.
    fn client<L: AsRef<[u8]>>(lines: &[L]) -> String {
        let proxies = TrustedProxies::parse("10.0.0.0/8, fd00::/8").expect("networks");
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_ref()).expect("a header value");
            headers.append("x-forwarded-for", line);
        }
        let peer = PROXY.parse().expect("an address");
        assert!(proxies.include(peer));
        proxies.client(peer, &headers).to_string()
    }

    #[test]
    fn client_is_the_rightmost_address_that_is_not_a_trusted_proxy() {
        for (line, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            // Forged entries are to the left of the entries that proxies add.
            ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
            ("10.9.9.9, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.7,192.0.2.1,10.0.0.3,\t10.0.0.2", "192.0.2.1"),
            ("192.0.2.1, fd00::7, 10.0.0.2", "192.0.2.1"),
            // The client is inside the trusted networks.
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
        ] {
            assert_eq!(client(&[line]), expected, "{line}");
        }
    }

    #[test]
    fn all_header_lines_are_read_in_order() {
        assert_eq!(client(&["198.51.100.7", "192.0.2.1", "10.0.0.3, 10.0.0.2"]), "192.0.2.1");
        assert_eq!(client(&["192.0.2.1, 198.51.100.7", "10.0.0.2"]), "198.51.100.7");
        assert_eq!(client::<&str>(&[]), PROXY);
    }

    #[test]
    fn malformed_entry_ends_the_search() {
        for garbage in [
            "",
            " ",
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.1:",
            "192.0.2.1:99999",
            "[192.0.2.1]",
            "[::1",
            "::1]",
            "[::1]x",
            "\"[2001:db8::1]\"",
            "for=192.0.2.1",
            "192.0.2.1;10.0.0.2",
            "10.0.0.0/8",
        ] {
            assert_eq!(client(&[garbage]), PROXY, "{garbage:?}");
            let named = format!("192.0.2.1, {garbage}, 10.0.0.2");
            assert_eq!(client(&[named]), "10.0.0.2", "{garbage:?}");
            let beyond = format!("{garbage}, 192.0.2.1, 10.0.0.2");
            assert_eq!(client(&[beyond]), "192.0.2.1", "{garbage:?}");
        }
        assert_eq!(client(&[b"\xff\xfe, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&[b"192.0.2.1, \xff\xfe"]), PROXY);
    }

    #[test]
    fn entry_may_have_a_port_and_brackets() {
        for (entry, expected) in [
            ("192.0.2.1:567", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:567", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:567", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2:567", "192.0.2.1"),
            ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
            ("192.0.2.1, [fd00::2]:567", "192.0.2.1"),
        ] {
            assert_eq!(client(&[entry]), expected, "{entry}");
        }
    }

    #[test]
    fn entries_beyond_the_maximum_are_ignored() {
        let proxies = |number: usize| vec!["10.0.0.2"; number].join(",");
        let within = format!("192.0.2.1,{}", proxies(MAX_ENTRIES - 1));
        assert_eq!(client(&[within]), "192.0.2.1");
        let beyond = format!("192.0.2.1,{}", proxies(MAX_ENTRIES));
        assert_eq!(client(&[beyond]), "10.0.0.2");
    }

    #[test]
    fn trusted_networks_are_matched_and_a_malformed_list_is_refused() {
        let include = |text: &str, address: &str| {
            let proxies = TrustedProxies::parse(text).unwrap_or_else(|| panic!("{text}"));
            proxies.include(address.parse().expect("an address"))
        };
        assert!(include("127.0.0.1", "127.0.0.1"));
        assert!(!include("127.0.0.1", "127.0.0.2"));
        assert!(include("192.0.2.1 , 10.0.0.0/8", "10.255.255.255"));
        assert!(!include("192.0.2.1 , 10.0.0.0/8", "11.0.0.0"));
        assert!(include("fd00::/8,::1", "::1"));
        assert!(include("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(include("::ffff:10.0.0.0/104", "10.1.2.3"));
        assert!(!include("::ffff:10.0.0.0/104", "11.0.0.0"));
        for wrong in
            ["", ",", "10.0.0.0/33", "10.0.0.0/8,", "10/8", "localhost", "::ffff:0.0.0.0/95", "a;b"]
        {
            assert!(TrustedProxies::parse(wrong).is_none(), "{wrong:?}");
        }
        let none = TrustedProxies::default();
        assert!(!none.include(PROXY.parse().expect("an address")));
    }
}
