//! The IP networks from which a key may be used.

use std::net::IpAddr;

use ipnet::IpNet;

/// Maximum number of networks in one list.
pub const MAX_NETWORKS: usize = 100;

/// Maximum length of the text of a network, in characters. A full IPv6 address with an IPv4 part is
/// the longest address.
#[cfg(feature = "server")]
const MAX_NETWORK_LENGTH: usize = "0000:0000:0000:0000:0000:ffff:255.255.255.255/128".len();

/// The networks from which a key, or all keys of an account, may be used. The list contains 1 to
/// [`MAX_NETWORKS`] networks, each of them once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedIps(Vec<IpNet>);

/// Why a list of networks is invalid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "must contain 1 to {MAX_NETWORKS} IP addresses or networks. Send null to allow any address"
)]
pub struct AllowedIpsError;

/// Why a text is not a network.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NetworkError {
    /// The text is neither an address nor a network.
    #[error("must be an IP address or a network, such as 203.0.113.7 or 203.0.113.0/24")]
    Malformed,
    /// The address has bits after the prefix.
    #[error(
        "must be {network}, because the address has bits set after the prefix. For this address \
         alone, send {address}"
    )]
    HostBits {
        /// The network without these bits.
        network: IpNet,
        /// The address with them.
        address: IpAddr,
    },
}

impl AllowedIps {
    /// Creates a list. Repeated networks are dropped.
    ///
    /// # Errors
    ///
    /// [`AllowedIpsError`] if the list is empty, or has more than [`MAX_NETWORKS`] networks.
    pub fn new(networks: Vec<IpNet>) -> Result<Self, AllowedIpsError> {
        if networks.is_empty() || networks.len() > MAX_NETWORKS {
            return Err(AllowedIpsError);
        }
        let mut list = Vec::with_capacity(networks.len());
        for network in networks {
            if !list.contains(&network) {
                list.push(network);
            }
        }
        Ok(Self(list))
    }

    /// Returns the networks in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &IpNet> {
        self.0.iter()
    }

    /// Returns the networks as texts, such as `203.0.113.0/24`.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.iter().map(IpNet::to_string).collect()
    }
}

impl serde::Serialize for AllowedIps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.to_strings())
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    AllowedIps,
    "AllowedIps",
    utoipa::openapi::schema::ArrayBuilder::new()
        .items(
            utoipa::openapi::ObjectBuilder::new()
                .schema_type(utoipa::openapi::schema::Type::String)
                .min_length(Some(2))
                .max_length(Some(MAX_NETWORK_LENGTH))
        )
        .description(Some(
            "IPv4 and IPv6 networks from which requests are accepted. An address without a prefix \
             length is a network of one address. An IPv4-mapped IPv6 address is its IPv4 address."
        ))
        .min_items(Some(1))
        .max_items(Some(MAX_NETWORKS))
        .examples([serde_json::json!(["203.0.113.0/24", "2001:db8::/48"])])
);

/// Parses an address such as `203.0.113.7`, or a network such as `2001:db8::/48`. An IPv4-mapped
/// IPv6 address or network is its IPv4 address or network.
///
/// # Errors
///
/// [`NetworkError::HostBits`] if the address has bits after the prefix, and
/// [`NetworkError::Malformed`] if the text is anything else.
pub fn parse_network(text: &str) -> Result<IpNet, NetworkError> {
    let network = parse_any_network(text).ok_or(NetworkError::Malformed)?;
    let (right, address) = (network.trunc(), network.addr());
    if network == right {
        Ok(network)
    } else {
        Err(NetworkError::HostBits { network: right, address })
    }
}

/// Parses an address or a network as [`parse_network`] does, but accepts an address with bits after
/// the prefix.
#[must_use]
pub fn parse_any_network(text: &str) -> Option<IpNet> {
    let (address, length) = match text.split_once('/') {
        None => (text, None),
        Some((address, length)) => (address, Some(parse_length(length)?)),
    };
    let address: IpAddr = address.parse().ok()?;
    let own_bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(own_bits);
    match address.to_canonical() {
        IpAddr::V4(mapped) if address.is_ipv6() => {
            IpNet::new(mapped.into(), length.checked_sub(96)?).ok()
        }
        _ => IpNet::new(address, length).ok(),
    }
}

/// Parses the length of a prefix. Leading zeros are refused, as in an IPv4 address.
fn parse_length(text: &str) -> Option<u8> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    if is_number && is_short { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_parsed() {
        for (text, expected) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:DB8:0:0::/48", "2001:db8::/48"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_network(text).map(|network| network.to_string()), Ok(expected.into()));
        }
    }

    #[test]
    fn bits_after_the_prefix_are_refused_with_the_right_network() {
        for (text, right, alone) in [
            ("10.0.0.1/8", "10.0.0.0/8", "10.0.0.1"),
            ("203.0.113.7/0", "0.0.0.0/0", "203.0.113.7"),
            ("2001:db8::1/48", "2001:db8::/48", "2001:db8::1"),
            ("::ffff:10.0.0.1/104", "10.0.0.0/8", "10.0.0.1"),
        ] {
            let error = parse_network(text).expect_err(text);
            assert_eq!(
                error.to_string(),
                format!(
                    "must be {right}, because the address has bits set after the prefix. For this \
                     address alone, send {alone}"
                )
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0",
            "10/8",
            "10.0.0",
            "010.0.0.1",
            "10.0.0.01",
            "10.0.0.256",
            "::/129",
            "::ffff:10.0.0.0/95",
            "fe80::1%eth0",
            "[::1]",
            "127.0.0.1:80",
            " 10.0.0.0/8",
            "10.0.0.0 /8",
            "10.0.0.0/8 ",
            "localhost",
            "1",
            "0x7f000001",
        ] {
            assert_eq!(parse_network(text), Err(NetworkError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn list_has_1_to_100_networks_and_repeats_none() {
        let network = |n: u32| IpNet::from(IpAddr::from(n.to_be_bytes()));
        assert_eq!(AllowedIps::new(Vec::new()), Err(AllowedIpsError));
        assert!(AllowedIps::new((0..100).map(network).collect()).is_ok());
        assert_eq!(AllowedIps::new((0..101).map(network).collect()), Err(AllowedIpsError));
        let list = AllowedIps::new(vec![network(2), network(1), network(2)]).expect("a list");
        assert_eq!(list.to_strings(), ["0.0.0.2/32", "0.0.0.1/32"]);
    }
}
