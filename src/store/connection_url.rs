//! Parses the URL of a database, in the form that libpq defines. For some mistakes sqlx only logs a
//! warning. Here they are errors, because a misspelled `sslmode` would leave a connection
//! unprotected.
//!
//! Error messages contain no values from the URL, because a password without percent-encoding can
//! end up in any part of the URL.

use std::net::IpAddr;

use super::{percent::decode, url_parameters::Parameters};

/// A URL that is not usable.
#[derive(Debug, thiserror::Error)]
#[error(
    "{setting} cannot be used: {reason}. The form is \
     postgres://user:password@host1:5432,host2:5432/database?sslmode=verify-full"
)]
pub struct UrlError {
    pub(super) setting: &'static str,
    pub(super) reason: String,
}

/// The decoded parts of a URL.
pub(super) struct ConnectionUrl {
    /// Names, addresses, and directories of sockets. Empty if the URL contains no host.
    pub hosts: Vec<String>,
    /// One port for all hosts, or one for each host. If the list is empty or an item is `None`,
    /// libpq's default applies.
    pub ports: Vec<Option<u16>>,
    /// All other parts, as parameters with the names that sqlx understands.
    pub parameters: Vec<(String, String)>,
}

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

const HOW_TO_ENCODE: &str =
    "In a user or a password, write / as %2F, ? as %3F, # as %23, and @ as %40";

impl ConnectionUrl {
    /// Parses a URL. The error is the reason, without any value from the URL.
    pub fn read(url: &str) -> Result<Self, String> {
        let url = url.trim();
        let Some(rest) = SCHEMES.into_iter().find_map(|scheme| url.strip_prefix(scheme)) else {
            return Err("it does not begin with postgres://".to_owned());
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // Most likely the host part ended inside a password without percent-encoding.
        if rest.contains(['@', '#']) {
            return Err(format!("it contains an @ or a # after the host. {HOW_TO_ENCODE}"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut given = Parameters::default();
        let hosts = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => {
                given.add_credentials(credentials)?;
                hosts
            }
            None => authority,
        };
        let database = path.trim_start_matches('/');
        if !database.is_empty() {
            given.add("dbname", decode(database)?)?;
        }
        given.add_query(query)?;
        let (mut hosts, mut ports) = read_hosts(hosts)?;
        if let Some(list) = given.take("host") {
            if !hosts.is_empty() {
                return Err("it contains hosts twice: before the database, and in host=".to_owned());
            }
            hosts = list.split(',').map(read_name).collect::<Result<_, _>>()?;
        }
        if let Some(list) = given.take("hostaddr") {
            let addresses: Vec<String> = list.split(',').map(str::to_owned).collect();
            if addresses.iter().any(|address| address.parse::<IpAddr>().is_err()) {
                return Err("hostaddr must be an IP address, or one for each host".to_owned());
            }
            if !hosts.is_empty() && hosts.len() != addresses.len() {
                return Err("hostaddr must have one IP address for each host".to_owned());
            }
            hosts = addresses;
        }
        if let Some(list) = given.take("port") {
            if ports.iter().any(Option::is_some) {
                return Err("it contains ports twice: after the hosts, and in port=".to_owned());
            }
            ports =
                list.split(',').map(|port| read_port(port).map(Some)).collect::<Result<_, _>>()?;
        }
        // The check above accepts only values that request the primary, which is what Tollgate
        // always uses.
        given.take("target_session_attrs");
        Ok(Self { hosts, ports, parameters: given.all() })
    }
}

/// Parses `host1:5432,host2,[::1]:5434`.
fn read_hosts(list: &str) -> Result<(Vec<String>, Vec<Option<u16>>), String> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for host in list.split(',').filter(|_| !list.is_empty()) {
        let (name, port) = match host.strip_prefix('[') {
            Some(address) => {
                let (address, port) = address.split_once(']').unwrap_or(("", ""));
                if address.parse::<IpAddr>().is_err() || !(port.is_empty() || port.starts_with(':'))
                {
                    return Err(
                        "an address in brackets must have a form such as [::1]:5432".to_owned()
                    );
                }
                (address, port.strip_prefix(':'))
            }
            None if host.matches(':').count() > 1 => {
                return Err("an IPv6 address must have brackets, such as [::1]:5432".to_owned());
            }
            None => match host.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (host, None),
            },
        };
        hosts.push(read_name(&decode(name)?)?);
        ports.push(port.map(read_port).transpose()?);
    }
    Ok((hosts, ports))
}

/// Parses a host name, an address, or the directory of a socket.
fn read_name(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("a host is empty".to_owned());
    }
    if !name.starts_with('/') && name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("a host contains a space".to_owned());
    }
    Ok(name.to_owned())
}

fn read_port(port: &str) -> Result<u16, String> {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|&port: &u16| is_number && port != 0);
    number.ok_or_else(|| format!("a port is not a number from 1 to 65535. {HOW_TO_ENCODE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> ConnectionUrl {
        ConnectionUrl::read(url).unwrap_or_else(|reason| panic!("{url}: {reason}"))
    }

    fn reason(url: &str) -> String {
        ConnectionUrl::read(url).err().unwrap_or_else(|| panic!("{url} is accepted"))
    }

    fn value(url: &str, name: &str) -> Option<String> {
        let found = read(url).parameters.into_iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value)
    }

    #[test]
    fn url_parser_accepts_hosts_and_ports_in_every_form_of_libpq() {
        for (url, hosts, ports) in [
            ("postgres://a/x", &["a"][..], &[None][..]),
            ("postgresql://a:1/x", &["a"], &[Some(1)]),
            ("postgres://a:1,b,[::1]:3/x", &["a", "b", "::1"], &[Some(1), None, Some(3)]),
            ("postgres://user:p,w@a:1,b:2", &["a", "b"], &[Some(1), Some(2)]),
            ("postgres://[2001:db8::1]/x", &["2001:db8::1"], &[None]),
            ("postgres://%2Frun%2Fa%2Cb:1,c/x", &["/run/a,b", "c"], &[Some(1), None]),
            ("postgres:///x?host=a,b&port=1,2", &["a", "b"], &[Some(1), Some(2)]),
            ("postgres:///x?host=/run/a,%2Frun%2Fb&port=1", &["/run/a", "/run/b"], &[Some(1)]),
            ("postgres://a,b/x?port=7", &["a", "b"], &[Some(7)]),
            (
                "postgres://a:1,b:2/x?hostaddr=10.0.0.1,::1",
                &["10.0.0.1", "::1"],
                &[Some(1), Some(2)],
            ),
            ("postgres:///x?port=7", &[], &[Some(7)]),
            ("postgres://user@/x", &[], &[]),
            ("  postgres://a/x\n", &["a"], &[None]),
        ] {
            let given = read(url);
            assert_eq!(given.hosts, hosts, "{url}");
            assert_eq!(given.ports, ports, "{url}");
        }
    }

    #[test]
    fn url_parser_decodes_users_passwords_and_databases() {
        let url = "postgres://us%40er:p%2F%3F%23%40%25,+w@a,b/data%20base?sslmode=require";
        assert_eq!(value(url, "user").as_deref(), Some("us@er"));
        assert_eq!(value(url, "password").as_deref(), Some("p/?#@%,+w"));
        assert_eq!(value(url, "dbname").as_deref(), Some("data base"));
        assert_eq!(value(url, "sslmode").as_deref(), Some("require"));
        // The last @ before the database ends the password.
        assert_eq!(value("postgres://u:p@ss:w%zz@a/x", "password").as_deref(), Some("p@ss:w%zz"));
        assert_eq!(value("postgres://a/x?password=", "password").as_deref(), Some(""));
        assert_eq!(value("postgres://a/x?ssl-ca=f", "sslrootcert").as_deref(), Some("f"));
        assert_eq!(
            value("postgres://a/x?options[a]=1&options[b]=2", "options[b]").as_deref(),
            Some("2")
        );
    }

    #[test]
    fn url_can_request_only_the_primary() {
        for wanted in ["read-write", "primary"] {
            assert_eq!(
                value(&format!("postgres://a/x?target_session_attrs={wanted}"), wanted),
                None
            );
        }
        for wanted in ["any", "read-only", "standby", "prefer-standby"] {
            let reason = reason(&format!("postgres://a/x?target_session_attrs={wanted}"));
            assert!(reason.contains(wanted) && reason.contains("Set it to read-write"), "{reason}");
        }
        let reason = reason("postgres://a/x?target_session_attrs=hunter2");
        assert_eq!(reason, "its target_session_attrs must be read-write");
    }

    #[test]
    fn errors_name_the_mistake_and_contain_no_value() {
        for (url, expected) in [
            ("mysql://u:hunter2@a/x", "does not begin with postgres://"),
            ("postgres://u:hunter2/x", "a port is not a number"),
            ("postgres://u:hun/ter2@a/x", "write / as %2F"),
            ("postgres://u:hun?ter2@a/x", "write / as %2F, ? as %3F"),
            ("postgres://u:hun#ter2@a/x", "# as %23"),
            ("postgres://u:hun@t/er2@a/x", "and @ as %40"),
            ("postgres://u:1/hunter2@a/x", "an @ or a # after the host"),
            ("postgres://u:hunter2@a:x/x", "a port is not a number"),
            ("postgres://u:hunter2@a:0/x", "a port is not a number"),
            ("postgres://u:hunter2@a:65536/x", "a port is not a number"),
            ("postgres://u:hunter2@a:+1/x", "a port is not a number"),
            ("postgres://u:hunter2@a:/x", "a port is not a number"),
            ("postgres://u:hunter2@a,,b/x", "a host is empty"),
            ("postgres://u:hunter2@a b/x", "a host contains a space"),
            ("postgres://u:hunter2@::1/x", "must have brackets"),
            ("postgres://u:hunter2@[::1/x", "such as [::1]:5432"),
            ("postgres://u:hunter2@[::1]5/x", "such as [::1]:5432"),
            ("postgres://:hunter2@a/x", "its user is empty"),
            ("postgres://u:@a/x", "its password is empty"),
            ("postgres://u:%FFhunter2@a/x", "not UTF-8 text"),
            ("postgres://a/x?user=", "its user is empty"),
            ("postgres://a/x?sslmode", "its sslmode must be one of disable, allow"),
            ("postgres://a/x?sslmode=hunter2", "its sslmode must be one of disable, allow"),
            ("postgres://a/x?sslcert", "its sslcert is empty"),
            ("postgres://a/x?sslmode=require&ssl-mode=require", "it contains sslmode twice"),
            ("postgres://u:hunter2@a/x?password=hunter2", "it contains password twice"),
            ("postgres://u@a/x?user=u", "it contains user twice"),
            ("postgres://a/x?dbname=x", "it contains dbname twice"),
            ("postgres://a/x?host=b", "it contains hosts twice"),
            ("postgres://a:1/x?port=1", "it contains ports twice"),
            ("postgres://a/x?port=hunter2", "a port is not a number"),
            ("postgres://a/x?hostaddr=hunter2", "hostaddr must be an IP address"),
            ("postgres://a,b/x?hostaddr=::1", "one IP address for each host"),
            ("postgres://a/x?statement-cache-capacity=hunter2", "must be a whole number"),
            ("postgres://a/x?sslmod=hunter2", "unknown parameter sslmod. sslmode is similar"),
            ("postgres://a/x?pgbouncer=hunter2", "unknown parameter pgbouncer. Remove it"),
            (
                "postgres://a/x?connect_timeout=9",
                "does not support libpq's parameter connect_timeout",
            ),
            ("postgres://a/x?channel_binding=require", "libpq's parameter channel_binding. Remove"),
            // Each of these may be the end of a password that contains an &.
            ("postgres://a/x?password=a&hunter2", "In a value, write & as %26"),
            ("postgres://a/x?password=a&hunter2=b", "In a value, write & as %26"),
            ("postgres://a/x?hunter2", "In a value, write & as %26"),
            ("postgres://a/x?hunter2!=b", "In a value, write & as %26"),
        ] {
            let reason = reason(url);
            assert!(reason.contains(expected), "{url}: {reason}");
            assert!(!reason.contains("hun") && !reason.contains("ter2"), "{url}: {reason}");
        }
    }
}
