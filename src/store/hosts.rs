//! The hosts of a connection URL, with all connection options for each.

use std::str::FromStr as _;

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use super::{
    connection_url::{ConnectionUrl, UrlError},
    explain,
    percent::encode,
    tls,
};

/// The connection options for each host of a URL, in the URL's order. There is at least one host.
/// The options differ only in the host and its port, and in the password if it comes from
/// `~/.pgpass`.
#[derive(Clone)]
pub(super) struct Hosts {
    setting: &'static str,
    all: Vec<PgConnectOptions>,
}

impl Hosts {
    /// Parses a connection URL. `setting` is the name of the setting that contains the URL.
    pub fn parse(setting: &'static str, url: &str) -> Result<Self, UrlError> {
        let hosts = ConnectionUrl::read(url).and_then(|given| servers(&given, url));
        match hosts {
            Ok(all) => Ok(Self { setting, all }),
            Err(reason) => Err(UrlError { setting, reason }),
        }
    }

    /// Returns the name of the setting that contains the URL.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    pub fn all(&self) -> &[PgConnectOptions] {
        &self.all
    }

    pub fn first(&self) -> &PgConnectOptions {
        &self.all()[0]
    }

    /// Returns the hosts and the database, for messages: `host1:5432, host2:5433, database x`.
    pub fn place(&self) -> String {
        let addresses: Vec<String> = self.all().iter().map(address).collect();
        format!("{}, database {}", addresses.join(", "), explain::database(self.first()))
    }
}

/// Returns the host and the database, for messages.
pub(super) fn place(options: &PgConnectOptions) -> String {
    format!("{}, database {}", address(options), explain::database(options))
}

/// Returns the host, for messages.
pub(super) fn address(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(directory) => directory.display().to_string(),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

fn servers(given: &ConnectionUrl, url: &str) -> Result<Vec<PgConnectOptions>, String> {
    if given.hosts.is_empty() {
        // sqlx reads the host from PGHOST, which may also be a list.
        let options = options(given, None, given.ports.first().copied().flatten(), url)?;
        let host = options.get_host();
        if !host.contains(',') {
            return if given.ports.len() > 1 { Err(port_mismatch()) } else { Ok(vec![options]) };
        }
        let hosts: Vec<&str> = host.split(',').collect();
        if hosts.contains(&"") {
            return Err("it contains no host, and PGHOST contains an empty one".to_owned());
        }
        return each(given, &hosts, url);
    }
    let hosts: Vec<&str> = given.hosts.iter().map(String::as_str).collect();
    each(given, &hosts, url)
}

fn each(given: &ConnectionUrl, hosts: &[&str], url: &str) -> Result<Vec<PgConnectOptions>, String> {
    let ports = match given.ports[..] {
        [] => vec![None; hosts.len()],
        [port] => vec![port; hosts.len()],
        ref ports if ports.len() == hosts.len() => ports.to_vec(),
        _ => return Err(port_mismatch()),
    };
    let mut all: Vec<PgConnectOptions> = Vec::with_capacity(hosts.len());
    for (host, port) in hosts.iter().zip(ports) {
        let options = options(given, Some(host), port, url)?;
        let is_same = |other: &PgConnectOptions| {
            address(other) == address(&options) && other.get_port() == options.get_port()
        };
        if all.iter().any(is_same) {
            return Err("it contains the same host and port twice".to_owned());
        }
        all.push(options);
    }
    Ok(all)
}

fn port_mismatch() -> String {
    "it must have one port for all hosts, or one for each".to_owned()
}

/// Returns the connection options for one host. If the URL omits a parameter, sqlx reads it from
/// libpq's environment variables or from `~/.pgpass`.
fn options(
    given: &ConnectionUrl,
    host: Option<&str>,
    port: Option<u16>,
    url: &str,
) -> Result<PgConnectOptions, String> {
    let port = port.map(|port| port.to_string());
    let address = [("host", host), ("port", port.as_deref())];
    let address = address.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let others = given.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let all = others.chain(address);
    let query: Vec<String> =
        all.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let options = PgConnectOptions::from_str(&format!("postgres:///?{}", query.join("&")))
        .map_err(|_| "a value in it is invalid".to_owned())?;
    // `extra_float_digits` controls how Postgres writes floats as text. PgBouncer refuses it, and
    // Tollgate uses no floats.
    let options = options.extra_float_digits(None);
    let options = options.application_name("tollgate").disable_statement_logging();
    Ok(tls::required_unless_local(options, url))
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgSslMode;

    use super::*;

    fn parse(url: &str) -> Hosts {
        Hosts::parse("DATABASE_URL", url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn url_with_several_hosts_yields_options_for_each_host() {
        let url = "postgres://app:p%2Cw@a:1,[::1]:2,%2Frun%2Fp:3/x?target_session_attrs=read-write";
        let hosts = parse(url);
        assert_eq!(hosts.place(), "a:1, [::1]:2, /run/p, database x");
        assert_eq!(place(hosts.first()), "a:1, database x");
        assert_eq!(
            hosts.all().iter().map(PgConnectOptions::get_port).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        for options in hosts.all() {
            assert_eq!(options.get_username(), "app");
            assert_eq!(options.get_database(), Some("x"));
            assert_eq!(options.get_application_name(), Some("tollgate"));
        }
        // Each host gets the TLS mode that it needs.
        let modes: Vec<PgSslMode> = parse("postgres://a:1,127.0.0.1:1/x?sslmode=verify-full")
            .all()
            .iter()
            .map(PgConnectOptions::get_ssl_mode)
            .collect();
        assert!(matches!(modes[..], [PgSslMode::VerifyFull, PgSslMode::VerifyFull]), "{modes:?}");
    }

    #[test]
    fn url_has_one_port_for_all_hosts_or_one_for_each_host() {
        for (url, place) in [
            ("postgres://a,b/x?port=7", "a:7, b:7, database x"),
            ("postgres:///x?host=a,b&port=7,8", "a:7, b:8, database x"),
            ("postgres://a:7,a:8/x", "a:7, a:8, database x"),
        ] {
            assert_eq!(parse(url).place(), place, "{url}");
        }
        // The default port is PGPORT, or else 5432.
        let default = PgConnectOptions::new_without_pgpass().get_port();
        assert_eq!(parse("postgres://a:7,b/x").place(), format!("a:7, b:{default}, database x"));
    }

    #[test]
    fn error_contains_the_setting_the_mistake_and_the_correct_form() {
        let error = |url: &str| {
            let error = Hosts::parse("TOLLGATE_LISTEN_DATABASE_URL", url).err().expect(url);
            error.to_string()
        };
        for (url, reason) in [
            ("postgres://u:hunter2@a,b,c/x?port=1,2", "it must have one port for all hosts"),
            ("postgres://u:hunter2@a:1,b,a:1/x", "it contains the same host and port twice"),
            ("postgres://u:hunter2@a/x?sslmod=require", "it contains the unknown parameter sslmod"),
        ] {
            let error = error(url);
            let start = format!("TOLLGATE_LISTEN_DATABASE_URL cannot be used: {reason}");
            assert!(error.starts_with(&start), "{error}");
            let form =
                "postgres://user:password@host1:5432,host2:5432/database?sslmode=verify-full";
            assert!(error.ends_with(form) && !error.contains("hunter2"), "{error}");
        }
    }
}
