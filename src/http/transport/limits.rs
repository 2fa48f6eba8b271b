//! The limits of a listener.

use std::time::Duration;

/// Limits of a listener's connections and of their requests.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Maximum number of concurrent connections. If it is reached, a new connection replaces the
    /// connection that has been idle longest.
    pub max_connections: usize,
    /// Maximum number of concurrent connections from one IPv4 address or IPv6 /64. `None` means a
    /// fifth of `max_connections`.
    pub max_connections_per_address: Option<usize>,
    /// How long to wait for the headers of a request, from their first byte on.
    pub header_timeout: Duration,
    /// How long a connection may be idle after a response.
    pub idle_timeout: Duration,
    /// How long to wait for a client to read more of a response.
    pub write_timeout: Duration,
    /// Maximum size in bytes of a request's first line and headers.
    pub header_bytes: usize,
    /// Maximum number of a request's header lines.
    pub max_headers: usize,
    /// How long the service waits for requests in flight when it stops.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_address: None,
            header_timeout: Duration::from_secs(30),
            // Load balancers keep idle connections for up to 60 s, and must close them before the
            // server does.
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            max_headers: 100,
            drain_timeout: Duration::from_secs(20),
        }
    }
}
