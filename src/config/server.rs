//! Settings of the server: its addresses, and the limits of requests.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::{
    addresses::AddressArgs,
    reader::{Reader, read_address},
};
use crate::{
    auth::MAX_ENTRIES,
    domain::dashboard::WebOrigin,
    http::{ServerLimits, TrustedProxies},
    node::NodeSettings,
    state::Limits,
    store::LEASE_BOUNDS,
};

/// Settings of the listeners, and limits of requests.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP")]
pub struct ServerArgs {
    #[command(flatten)]
    pub addresses: AddressArgs,

    /// Addresses and networks of the proxies in front of Tollgate, such as
    /// 127.0.0.1,10.0.0.0/8,fd00::/8 [default: no proxies]
    ///
    /// Tollgate reads X-Forwarded-For only in requests from these proxies. The client is the
    /// rightmost address in the header that is not a trusted proxy, so each proxy must append the
    /// address of its own client. List only proxies, because any other program at a listed address
    /// can pretend to be any client.
    #[arg(long, env = "TOLLGATE_TRUSTED_PROXIES", value_name = "NETWORK[,NETWORK]")]
    pub trusted_proxies: Option<String>,

    /// Address and port of the metrics for Prometheus, or off [default: 127.0.0.1:9464]
    ///
    /// This address also serves /livez and /readyz. The metrics contain the names of tenants, and
    /// anyone who reaches this address can read them. Allow only your monitoring to connect.
    #[arg(long, env = "TOLLGATE_METRICS_LISTEN", value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,

    /// Whether to serve the API documentation at /docs, the book at /docs/book/ and the OpenAPI
    /// document at /openapi.json [default: on] [allowed: on or off]
    ///
    /// With off, these paths answer 404, and problems do not contain documentation_url.
    #[arg(long, env = "TOLLGATE_DOCS", value_name = "on|off")]
    pub docs: Option<String>,

    /// Maximum number of keys in the verification cache [default: 1000000] [allowed: 0 to
    /// 100000000]
    ///
    /// One key takes about 200 bytes, about 1 kB with rate limits, and 8 to 32 bytes more for each
    /// allowed network. With 0, every verification queries the database.
    #[arg(
        long,
        env = "TOLLGATE_CACHE_ENTRIES",
        value_name = "NUMBER",
        help_heading = "Verification"
    )]
    pub cache_entries: Option<String>,

    /// How long a node may accept API keys after it has renewed its lease [default: 2s] [allowed:
    /// 100ms to 10s]
    ///
    /// A revocation waits this long for a node that was killed, that hangs or that is cut off from
    /// the database. The lease must be shorter than the TOLLGATE_REQUEST_TIMEOUT of every node.
    #[arg(long, env = "TOLLGATE_LEASE", value_name = "DURATION", help_heading = "Verification")]
    pub lease: Option<String>,

    /// Maximum size of a request body in bytes [default: 16384] [allowed: 1024 to 1048576]
    ///
    /// A larger body gets 413. The dashboard settings accept 65536 bytes, because they may contain
    /// a logo.
    #[arg(long, env = "TOLLGATE_MAX_BODY_BYTES", value_name = "BYTES", help_heading = "Limits")]
    pub max_body_bytes: Option<String>,

    /// Maximum size of the request headers in bytes [default: 16384] [allowed: 8192 to 1048576]
    ///
    /// Larger headers get 431.
    #[arg(long, env = "TOLLGATE_MAX_HEADER_BYTES", value_name = "BYTES", help_heading = "Limits")]
    pub max_header_bytes: Option<String>,

    /// Maximum number of header lines of a request [default: 100] [allowed: 10 to 1000]
    #[arg(long, env = "TOLLGATE_MAX_HEADERS", value_name = "NUMBER", help_heading = "Limits")]
    pub max_headers: Option<String>,

    /// Maximum number of concurrent client connections [default: 10000] [allowed: 1 to 1000000]
    ///
    /// If the limit is reached and another client connects, Tollgate closes the connection that has
    /// been idle longest. If no connection is idle, requests of the new client get 503, except for
    /// /livez and /readyz. A service accepts no more connections than its open-file limit allows.
    #[arg(long, env = "TOLLGATE_MAX_CONNECTIONS", value_name = "NUMBER", help_heading = "Limits")]
    pub max_connections: Option<String>,

    /// Maximum number of concurrent connections from one IPv4 address or one IPv6 /64 network
    /// [default: a fifth of TOLLGATE_MAX_CONNECTIONS] [allowed: 1 to 1000000]
    ///
    /// The limit does not apply to trusted proxies.
    #[arg(
        long,
        env = "TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "NUMBER",
        help_heading = "Limits"
    )]
    pub max_connections_per_address: Option<String>,

    /// Maximum number of concurrent requests of one API key or one dashboard session [default: 16]
    /// [allowed: 1 to 1000]
    ///
    /// A further request gets 429. The limit does not apply to verifications, purchases and holds,
    /// which have their own queues.
    #[arg(long, env = "TOLLGATE_MAX_IN_FLIGHT", value_name = "NUMBER", help_heading = "Limits")]
    pub max_in_flight: Option<String>,

    /// How long Tollgate waits for a request body before it answers 408 [default: 10s]
    #[arg(long, env = "TOLLGATE_BODY_TIMEOUT", value_name = "DURATION", help_heading = "Timeouts")]
    pub body_timeout: Option<String>,

    /// How long Tollgate may take to process a request, counted from the end of its headers, before
    /// it answers 503 [default: 15s]
    ///
    /// The value must be longer than TOLLGATE_LEASE, because a revocation may wait for the length
    /// of the lease.
    #[arg(
        long,
        env = "TOLLGATE_REQUEST_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Timeouts"
    )]
    pub request_timeout: Option<String>,

    /// How long Tollgate waits for the headers of a request before it closes the connection
    /// [default: 30s]
    #[arg(
        long,
        env = "TOLLGATE_HEADER_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Timeouts"
    )]
    pub header_timeout: Option<String>,

    /// How long Tollgate keeps an idle connection open [default: 75s]
    ///
    /// The value must be longer than the idle timeout of the load balancer in front of Tollgate.
    /// Otherwise the load balancer may send a request on a connection that Tollgate is closing.
    #[arg(long, env = "TOLLGATE_IDLE_TIMEOUT", value_name = "DURATION", help_heading = "Timeouts")]
    pub idle_timeout: Option<String>,

    /// How long Tollgate waits for a client to read more of a response before it closes the
    /// connection [default: 30s]
    #[arg(
        long,
        env = "TOLLGATE_WRITE_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Timeouts"
    )]
    pub write_timeout: Option<String>,

    /// How long a request may take before Tollgate logs it as slow [default: 1s]
    #[arg(long, env = "TOLLGATE_SLOW_REQUEST", value_name = "DURATION", help_heading = "Log")]
    pub slow_request: Option<String>,

    /// How long Tollgate waits for requests in flight when it stops [default: 20s]
    #[arg(
        long,
        env = "TOLLGATE_DRAIN_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Timeouts"
    )]
    pub drain_timeout: Option<String>,
}

/// The configuration of the server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// The address of the metrics. `None` means that no listener serves them.
    pub metrics_listen: Option<SocketAddr>,
    /// `None` means the URL of the address on which the service listens.
    pub public_url: Option<WebOrigin>,
    pub trusted_proxies: TrustedProxies,
    /// Whether the service serves its documentation.
    pub docs: bool,
    pub limits: Limits,
    pub server_limits: ServerLimits,
    pub node: NodeSettings,
}

impl ServerArgs {
    pub(super) fn read(&self, reader: &mut Reader) -> Option<ServerConfig> {
        let addresses = self.addresses.read(reader);
        let metrics = self.metrics_listen.as_deref();
        let metrics = reader.value(
            "TOLLGATE_METRICS_LISTEN",
            metrics,
            "an address and a port, such as 127.0.0.1:9464, or off",
            |text| match text {
                "off" => Some(None),
                text => read_address(text).map(Some),
            },
        );
        let metrics = metrics.unwrap_or_else(|| read_address("127.0.0.1:9464").map(Some));
        let docs =
            reader.value("TOLLGATE_DOCS", self.docs.as_deref(), "on or off", |text| match text {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            });
        let docs = docs.unwrap_or(Some(true));
        let proxies = reader.value(
            "TOLLGATE_TRUSTED_PROXIES",
            self.trusted_proxies.as_deref(),
            "addresses and networks separated by commas, such as 127.0.0.1,10.0.0.0/8",
            TrustedProxies::parse,
        );
        let proxies = proxies.unwrap_or_else(|| Some(TrustedProxies::default()));
        let (limits, bounds) = (Limits::default(), ServerLimits::default());
        let body = reader.number(
            "TOLLGATE_MAX_BODY_BYTES",
            self.max_body_bytes.as_deref(),
            1024..=1_048_576,
            limits.body_bytes,
        );
        let header = reader.number(
            "TOLLGATE_MAX_HEADER_BYTES",
            self.max_header_bytes.as_deref(),
            8192..=1_048_576,
            bounds.header_bytes,
        );
        let max_headers = reader.number(
            "TOLLGATE_MAX_HEADERS",
            self.max_headers.as_deref(),
            10..=1000,
            bounds.max_headers,
        );
        let connections = reader.number(
            "TOLLGATE_MAX_CONNECTIONS",
            self.max_connections.as_deref(),
            1..=1_000_000,
            bounds.max_connections,
        );
        let per_address = self.max_connections_per_address.as_deref();
        let per_address = match per_address {
            None => Some(None),
            given => reader
                .number("TOLLGATE_MAX_CONNECTIONS_PER_ADDRESS", given, 1..=1_000_000, 0)
                .map(Some),
        };
        let in_flight = reader.number(
            "TOLLGATE_MAX_IN_FLIGHT",
            self.max_in_flight.as_deref(),
            1..=1000,
            limits.in_flight,
        );
        let node = NodeSettings::default();
        let cache_entries = reader.number(
            "TOLLGATE_CACHE_ENTRIES",
            self.cache_entries.as_deref(),
            0..=MAX_ENTRIES as u64,
            node.cache_entries,
        );
        let lease = self.lease(reader, node.lease);
        let mut duration = |name, value: &Option<String>, default| {
            reader.duration(name, value.as_deref(), default)
        };
        let body_timeout =
            duration("TOLLGATE_BODY_TIMEOUT", &self.body_timeout, limits.body_timeout);
        let request =
            duration("TOLLGATE_REQUEST_TIMEOUT", &self.request_timeout, limits.request_timeout);
        let headers =
            duration("TOLLGATE_HEADER_TIMEOUT", &self.header_timeout, bounds.header_timeout);
        let idle = duration("TOLLGATE_IDLE_TIMEOUT", &self.idle_timeout, bounds.idle_timeout);
        let write = duration("TOLLGATE_WRITE_TIMEOUT", &self.write_timeout, bounds.write_timeout);
        let slow = duration("TOLLGATE_SLOW_REQUEST", &self.slow_request, limits.slow_request);
        let drain = duration("TOLLGATE_DRAIN_TIMEOUT", &self.drain_timeout, bounds.drain_timeout);
        if let (Some(lease), Some(request)) = (lease, request)
            && lease >= request
        {
            reader.errors.push(format!(
                "TOLLGATE_LEASE is {lease:?} and TOLLGATE_REQUEST_TIMEOUT is {request:?}. The \
                 lease must be shorter, because a revocation may wait for the length of the lease"
            ));
        }
        let addresses = addresses?;
        Some(ServerConfig {
            listen: addresses.listen,
            metrics_listen: metrics?,
            public_url: addresses.public_url,
            trusted_proxies: proxies?,
            docs: docs?,
            limits: Limits {
                body_bytes: body?,
                body_timeout: body_timeout?,
                request_timeout: request?,
                in_flight: in_flight?,
                slow_request: slow?,
            },
            server_limits: ServerLimits {
                max_connections: connections?,
                max_connections_per_address: per_address?,
                header_timeout: headers?,
                idle_timeout: idle?,
                write_timeout: write?,
                header_bytes: header?,
                max_headers: max_headers?,
                drain_timeout: drain?,
            },
            node: NodeSettings { cache_entries: cache_entries?, lease: lease? },
        })
    }

    fn lease(&self, reader: &mut Reader, default: Duration) -> Option<Duration> {
        let lease = reader.duration("TOLLGATE_LEASE", self.lease.as_deref(), default)?;
        if !LEASE_BOUNDS.contains(&lease) {
            reader
                .errors
                .push(format!("TOLLGATE_LEASE is {lease:?}: it must be from 100ms to 10s"));
            return None;
        }
        Some(lease)
    }
}
