//! The clients that used a key, as the service records them.

use std::net::IpAddr;

use super::text_enum::text_enum;

/// Number of days for which the networks and the refusals of a key are stored.
pub const STORED_DAYS: i32 = 30;

/// Maximum number of stored networks of a key.
pub const MAX_NETWORKS: usize = 50;

/// Maximum number of stored refusals of a key.
pub const MAX_REFUSALS: usize = 100;

/// Maximum number of characters of a stored user agent.
pub const MAX_USER_AGENT_CHARS: usize = 100;

/// Length of the prefix of a recorded IPv4 network.
pub const NETWORK_BITS_V4: u8 = 24;

/// Length of the prefix of a recorded IPv6 network.
pub const NETWORK_BITS_V6: u8 = 48;

/// The client of a request with a key.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The address, if it is known.
    pub address: Option<IpAddr>,
    /// The value of `User-Agent`. Empty if it is unknown.
    pub user_agent: &'a [u8],
    /// The pattern of the route, never a path.
    pub route: &'a str,
}

text_enum! {
    /// Which addresses of clients the service stores for the keys of a tenant.
    pub enum ClientAddresses: Default(Full) {
        /// The whole address.
        Full = "full",
        /// Only the network: the first 24 bits of an IPv4 address, or the first 48 bits of an IPv6
        /// address.
        Truncated = "truncated",
        /// No addresses and no networks.
        Off = "off",
    }
}
