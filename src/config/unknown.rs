//! Finds variables that are named like a setting, but belong to no setting. Such a name is probably
//! misspelled, and the service would run with a default instead of the intended value.

use std::collections::BTreeSet;

use clap::{Arg, Args as _, Command};

use super::{database::DatabaseArgs, server::ServerArgs};
use crate::domain::misspelling::closest;

const PREFIX: &str = "TOLLGATE_";

/// Variables that other programs read: clients, `compose.yaml`, and the scripts and tests of the
/// repository. An operator may have them in the same shell or `.env`.
const OF_OTHER_PROGRAMS: [&str; 6] = [
    "TOLLGATE_ADMIN_KEY",
    "TOLLGATE_BIN",
    "TOLLGATE_DB_PASSWORD",
    "TOLLGATE_METRICS_URL",
    "TOLLGATE_TEST_LONG",
    "TOLLGATE_URL",
];

/// A variable that belongs to no setting.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UnknownVariable {
    pub name: String,
    /// The variable of a setting that has almost the same name.
    pub closest: Option<String>,
}

/// Returns the variables of all settings.
#[must_use]
pub fn known_variables() -> BTreeSet<String> {
    let settings = ServerArgs::augment_args(DatabaseArgs::augment_args(Command::new("tollgate")));
    let variables = settings.get_arguments().filter_map(Arg::get_env);
    variables.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Variables that no setting reads, but that other programs read.
#[must_use]
pub fn variables_of_other_programs() -> &'static [&'static str] {
    &OF_OTHER_PROGRAMS
}

/// Returns the unknown variables of this process, sorted by name. Includes the variables in `.env`
/// if it was loaded.
#[must_use]
pub fn unknown_variables() -> Vec<UnknownVariable> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let given = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    unknown_among(given, &known_variables())
}

fn unknown_among(
    given: impl Iterator<Item = (String, String)>,
    known: &BTreeSet<String>,
) -> Vec<UnknownVariable> {
    let is_unknown = |name: &str, value: &str| {
        name.starts_with(PREFIX)
            && !known.contains(name)
            && !OF_OTHER_PROGRAMS.contains(&name)
            && !is_from_kubernetes(name, value)
    };
    let mut unknown: Vec<UnknownVariable> = given
        .filter(|(name, value)| is_unknown(name, value))
        .map(|(name, _)| UnknownVariable { closest: closest_setting(&name, known), name })
        .collect();
    unknown.sort();
    unknown
}

/// Whether Kubernetes has set the variable. In every container, Kubernetes sets variables with the
/// addresses of each service. For a service named `tollgate`, these include `TOLLGATE_SERVICE_HOST`
/// and `TOLLGATE_PORT_8080_TCP`.
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].iter().any(|part| name.contains(part))
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// Returns the known variable that the name resembles. The comparison skips the common prefix,
/// whose letters would allow more edits in a short name.
fn closest_setting(name: &str, known: &BTreeSet<String>) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    // `DATABASE_URL` and others have no prefix.
    if known.contains(rest) {
        return Some(rest.to_owned());
    }
    let settings = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
    closest(rest, settings).map(|setting| format!("{PREFIX}{setting}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the unknown variables among these, each with the closest setting.
    fn unknown(given: &[(&str, &str)]) -> Vec<(String, Option<String>)> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let unknown = unknown_among(given, &known_variables());
        unknown.into_iter().map(|variable| (variable.name, variable.closest)).collect()
    }

    #[test]
    fn misspelled_variable_is_reported_with_the_closest_setting() {
        for (misspelled, closest) in [
            ("TOLLGATE_LISTN", Some("TOLLGATE_LISTEN")),
            ("TOLLGATE_LSITEN", Some("TOLLGATE_LISTEN")),
            ("TOLLGATE_TRUSTED_PROXY", Some("TOLLGATE_TRUSTED_PROXIES")),
            ("TOLLGATE_MAX_CONECTIONS", Some("TOLLGATE_MAX_CONNECTIONS")),
            ("TOLLGATE_LOGS", Some("TOLLGATE_LOG")),
            ("TOLLGATE_DATABASE_URL", Some("DATABASE_URL")),
            ("TOLLGATE_FOO", None),
            ("TOLLGATE_", None),
            ("TOLLGATE_POOL_SIZE", None),
            ("TOLLGATE_PORT", None),
        ] {
            let expected = (misspelled.to_owned(), closest.map(str::to_owned));
            assert_eq!(unknown(&[(misspelled, "9000")]), [expected]);
        }
    }

    #[test]
    fn settings_and_variables_of_other_programs_are_not_reported() {
        for (name, value) in [
            ("TOLLGATE_LISTEN", "127.0.0.1:8080"),
            ("TOLLGATE_DATA_DIR", "data"),
            ("TOLLGATE_DB_PASSWORD", "hunter2"),
            ("TOLLGATE_URL", "http://127.0.0.1:8080"),
            ("TOLLGATE_SERVICE_HOST", "10.0.0.7"),
            ("TOLLGATE_METRICS_SERVICE_PORT_HTTP", "9464"),
            ("TOLLGATE_PORT", "tcp://10.0.0.7:8080"),
            ("TOLLGATE_PORT_8080_TCP_ADDR", "10.0.0.7"),
            ("TRONAGG_ADMIN_KEY", "x"),
        ] {
            assert!(unknown(&[(name, value)]).is_empty(), "{name}");
        }
    }
}
