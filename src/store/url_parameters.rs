//! The parameters of a connection URL, with their names and allowed values.
//!
//! Error messages contain no values, and no unknown name that may be a part of a password.

use super::{percent::decode, tls::SSL_MODES};
use crate::domain::misspelling::closest;

/// The parameters of a URL. For a parameter with several names, this list contains the first name.
const PARAMETERS: [&str; 14] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "statement-cache-capacity",
    "target_session_attrs",
];

/// Parameters of libpq that sqlx does not support. A URL that contains one is refused, because
/// ignoring it could be dangerous. For example, `channel_binding` and `gssencmode` protect a
/// connection, and `connect_timeout` limits the time to open it.
const ONLY_LIBPQ: &str = "channel_binding client_encoding connect_timeout \
    fallback_application_name gssdelegation gssencmode gsslib keepalives keepalives_count \
    keepalives_idle keepalives_interval krbsrvname load_balance_hosts max_protocol_version \
    min_protocol_version passfile replication require_auth requirepeer requiressl service \
    ssl_max_protocol_version ssl_min_protocol_version sslcertmode sslcompression sslcrl \
    sslcrldir sslnegotiation sslpassword sslsni tcp_user_timeout";

/// The parameters that were parsed so far. Each may occur once.
#[derive(Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn add(&mut self, name: &str, value: String) -> Result<(), String> {
        if self.0.iter().any(|(given, _)| given == name) {
            return Err(format!("it contains {name} twice"));
        }
        // An empty password means no password. Neither PGPASSWORD nor ~/.pgpass is used.
        if value.is_empty() && name != "password" {
            return Err(format!("its {name} is empty. Give it a value, or omit it"));
        }
        self.0.push((name.to_owned(), value));
        Ok(())
    }

    /// Removes the parameter, and returns its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(given, _)| given == name)?;
        Some(self.0.remove(place).1)
    }

    pub fn all(self) -> Vec<(String, String)> {
        self.0
    }

    /// Adds the user and the password from the part of the URL before the `@`.
    pub fn add_credentials(&mut self, credentials: &str) -> Result<(), String> {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        self.add("user", decode(user)?)?;
        match password {
            None => Ok(()),
            Some("") => Err("its password is empty. Give one, or omit the colon".to_owned()),
            Some(password) => self.add("password", decode(password)?),
        }
    }

    pub fn add_query(&mut self, query: &str) -> Result<(), String> {
        let mut is_after_password = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let Some(known) = known_name(&name) else {
                // The pair may be the rest of a password that contains an &.
                let may_be_secret = is_after_password || !pair.contains('=');
                return Err(unknown(&name, may_be_secret));
            };
            let value = decode(value)?;
            check_value(known, &value)?;
            self.add(known, value)?;
            is_after_password = known == "password";
        }
        Ok(())
    }
}

/// Returns the first name of a parameter. `options[…]` stands for one parameter for each Postgres
/// setting.
fn known_name(name: &str) -> Option<&str> {
    let first = match name {
        "ssl-mode" => "sslmode",
        "ssl-root-cert" | "ssl-ca" => "sslrootcert",
        "ssl-cert" => "sslcert",
        "ssl-key" => "sslkey",
        other => other,
    };
    let is_option = first.starts_with("options[") && first.ends_with(']');
    (is_option || PARAMETERS.contains(&first)).then_some(first)
}

fn unknown(name: &str, may_be_secret: bool) -> String {
    if ONLY_LIBPQ.split(' ').any(|known| known == name) {
        return format!("Tollgate does not support libpq's parameter {name}. Remove it");
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.[]".contains(c);
    if may_be_secret || name.is_empty() || name.len() > 40 || !name.chars().all(is_name) {
        return "it contains an unknown parameter. In a value, write & as %26".to_owned();
    }
    match closest(name, PARAMETERS) {
        Some(known) => format!("it contains the unknown parameter {name}. {known} is similar"),
        None => format!("it contains the unknown parameter {name}. Remove it"),
    }
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    let (is_valid, allowed) = match name {
        "sslmode" => (
            SSL_MODES.iter().any(|mode| value.eq_ignore_ascii_case(mode)),
            format!("one of {}", SSL_MODES.join(", ")),
        ),
        "statement-cache-capacity" => (value.parse::<usize>().is_ok(), "a whole number".to_owned()),
        "target_session_attrs" => return check_wanted_session(value),
        _ => return Ok(()),
    };
    if is_valid { Ok(()) } else { Err(format!("its {name} must be {allowed}")) }
}

/// Accepts only `read-write` and `primary`, which request the primary, because Tollgate uses only
/// the primary.
fn check_wanted_session(wanted: &str) -> Result<(), String> {
    match wanted {
        "read-write" | "primary" => Ok(()),
        "any" | "read-only" | "standby" | "prefer-standby" => Err(format!(
            "its target_session_attrs is {wanted}, but Tollgate uses only the primary. \
             Set it to read-write, or omit it"
        )),
        _ => Err("its target_session_attrs must be read-write".to_owned()),
    }
}
