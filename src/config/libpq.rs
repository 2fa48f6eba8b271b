//! Checks libpq's variables, which complete the database's URL. sqlx reads these variables, and
//! silently uses its defaults instead of invalid values.

use std::ffi::OsStr;

use super::{
    environment::{set_but_empty, variable},
    variable::Variable,
};
use crate::store::SSL_MODES;

/// The variables that sqlx reads.
pub const LIBPQ_VARIABLES: [Variable; 12] = [
    Variable { name: "PGHOST", help: "Host, or several hosts separated by commas." },
    Variable {
        name: "PGHOSTADDR",
        help: "IP address of the host. Tollgate then does not look up the host name.",
    },
    Variable { name: "PGPORT", help: "Port, 1 to 65535." },
    Variable { name: "PGUSER", help: "Role that Tollgate connects as." },
    Variable { name: "PGPASSWORD", help: "Password of the role." },
    Variable { name: "PGDATABASE", help: "Name of the database." },
    Variable {
        name: "PGSSLMODE",
        help: "TLS: disable, allow, prefer, require, verify-ca or verify-full. The default for a \
               host other than this machine is require.",
    },
    Variable {
        name: "PGSSLROOTCERT",
        help: "File that contains the certificate of the authority that signed the server's \
               certificate.",
    },
    Variable { name: "PGSSLCERT", help: "File that contains the client certificate." },
    Variable {
        name: "PGSSLKEY",
        help: "File that contains the private key of the client certificate.",
    },
    Variable {
        name: "PGAPPNAME",
        help: "Has no effect, because Tollgate names its connections itself. An empty value is an \
               error.",
    },
    Variable {
        name: "PGOPTIONS",
        help: "Parameters of each session, such as -c search_path=tollgate.",
    },
];

/// Returns a message for each invalid variable of this process.
pub(super) fn invalid_variables() -> Vec<String> {
    let check = |of: &Variable| mistake(of.name, &variable(of.name)?);
    LIBPQ_VARIABLES.iter().filter_map(check).collect()
}

/// Returns a message if the value of a variable is invalid. The message contains the value only if
/// it cannot be secret. Values are not trimmed, because sqlx does not trim them.
fn mistake(name: &str, value: &OsStr) -> Option<String> {
    let Some(text) = value.to_str() else {
        return Some(format!("{name} is not UTF-8 text"));
    };
    if text.trim().is_empty() {
        return Some(set_but_empty(name));
    }
    let (valid, allowed) = match name {
        "PGPORT" => (
            text.parse::<u16>().is_ok_and(|port| port != 0),
            "a whole number from 1 to 65535".to_owned(),
        ),
        "PGSSLMODE" => (
            SSL_MODES.iter().any(|mode| text.eq_ignore_ascii_case(mode)),
            format!("one of {}", SSL_MODES.join(", ")),
        ),
        _ => return None,
    };
    (!valid).then(|| format!("{name} is {text:?}: it must be {allowed}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn invalid_ports_and_tls_modes_are_reported() {
        for (name, value) in [
            ("PGPORT", "x"),
            ("PGPORT", "0"),
            ("PGPORT", "99999"),
            ("PGPORT", "5432 "),
            ("PGSSLMODE", "requier"),
            ("PGSSLMODE", "verify_full"),
        ] {
            let error = mistake(name, OsStr::new(value)).expect(value);
            assert!(error.starts_with(&format!("{name} is {value:?}: it must be ")), "{error}");
        }
        for (name, value) in [("PGPORT", "5433"), ("PGSSLMODE", "Verify-Full"), ("PGHOST", "x")] {
            assert_eq!(mistake(name, OsStr::new(value)), None);
        }
    }

    #[test]
    fn value_that_is_not_utf8_is_reported_without_the_value() {
        let error = mistake("PGPASSWORD", OsStr::from_bytes(b"hunter2\xff"));
        assert_eq!(error.as_deref(), Some("PGPASSWORD is not UTF-8 text"));
    }
}
