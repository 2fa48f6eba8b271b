//! Decides whether connections to Postgres must be encrypted.

use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tracing::warn;

/// The values of `sslmode` and of `PGSSLMODE`.
pub const SSL_MODES: [&str; 6] =
    ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Requires TLS for a host that is neither a loopback address nor a socket. An sslmode in the URL
/// or in PGSSLMODE can change this.
///
/// Without an sslmode, sqlx prefers TLS. An attacker on the network could then disable TLS by
/// responding that the server does not support it. PGSSLMODE=prefer is treated as if PGSSLMODE were
/// not set, so only the URL can request `prefer`.
pub(super) fn required_unless_local(options: PgConnectOptions, url: &str) -> PgConnectOptions {
    if is_local(&options) {
        return options;
    }
    match options.get_ssl_mode() {
        PgSslMode::Prefer if !names_sslmode(url) => options.ssl_mode(PgSslMode::Require),
        PgSslMode::Prefer | PgSslMode::Allow => {
            warn!(
                host = options.get_host(),
                "this sslmode does not protect passwords and data on their way to Postgres. With \
                 prefer, a proxy on the network can strip TLS. With allow, Tollgate never uses \
                 TLS. Use sslmode=verify-full"
            );
            options
        }
        _ => options,
    }
}

/// Whether passwords and data cross a network without encryption because of the sslmode.
pub(super) fn is_off(options: &PgConnectOptions) -> bool {
    matches!(options.get_ssl_mode(), PgSslMode::Disable) && !is_local(options)
}

/// Whether the connection stays on this machine. Names are not resolved, except that `localhost`
/// always means this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    if options.get_socket().is_some() || host.starts_with('/') {
        return true;
    }
    // In a URL, an IPv6 address is in brackets.
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether the URL contains the parameter. A percent-encoded name does not count, so TLS is
/// required in this case.
fn names_sslmode(url: &str) -> bool {
    let (url, _) = url.split_once('#').unwrap_or((url, ""));
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    let mut names = query.split('&').filter_map(|parameter| parameter.split('=').next());
    names.any(|name| matches!(name, "sslmode" | "ssl-mode"))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    /// Returns the TLS mode of a connection to this URL. The PGSSLMODE of the test environment has
    /// no influence.
    fn mode(url: &str) -> PgSslMode {
        let options = PgConnectOptions::from_str(url).expect("a URL");
        let options =
            if names_sslmode(url) { options } else { options.ssl_mode(PgSslMode::Prefer) };
        required_unless_local(options, url).get_ssl_mode()
    }

    #[test]
    fn remote_hosts_require_tls() {
        for url in [
            "postgres://app@db.example.com/tollgate",
            "postgres://app@10.0.0.7:5433/tollgate",
            "postgres://app@0.0.0.0/tollgate",
            "postgres://app@[2001:db8::1]/tollgate",
            "postgres://app@[::ffff:10.0.0.7]/tollgate",
            "postgres://app@localhost.example.com/tollgate",
            "postgres://app@localhost/tollgate?host=db.example.com",
            "postgres://app@localhost/tollgate?hostaddr=10.0.0.7",
            "postgres://app@db.example.com/tollgate?application_name=sslmode",
            "postgres://app@db.example.com/tollgate#?sslmode=prefer",
            "postgres://app@db.example.com/tollgate?sslmode=require",
        ] {
            assert!(matches!(mode(url), PgSslMode::Require), "{url}");
        }
    }

    #[test]
    fn loopback_addresses_and_sockets_do_not_require_tls() {
        for url in [
            "postgres://app@localhost/tollgate",
            "postgres://app@LocalHost/tollgate",
            "postgres://app@127.0.0.1/tollgate",
            "postgres://app@127.9.9.9/tollgate",
            "postgres://app@[::1]/tollgate",
            "postgres://app@[::ffff:127.0.0.1]/tollgate",
            "postgres://app@db.example.com/tollgate?hostaddr=127.0.0.1",
            "postgres://app@%2Frun%2Fpostgresql/tollgate",
            "postgres:///tollgate?host=/run/postgresql",
        ] {
            assert!(matches!(mode(url), PgSslMode::Prefer), "{url}");
        }
    }

    #[test]
    fn sslmode_in_the_url_overrides_the_default() {
        let of = |name: &str| mode(&format!("postgres://app@db.example.com/tollgate?a=b&{name}"));
        assert!(matches!(of("sslmode=disable"), PgSslMode::Disable));
        assert!(matches!(of("sslmode=prefer"), PgSslMode::Prefer));
        assert!(matches!(of("ssl-mode=prefer"), PgSslMode::Prefer));
        assert!(matches!(of("sslmode=verify-full"), PgSslMode::VerifyFull));
    }
}
