//! Explains in one line why Postgres is unreachable, and what to do.

use std::{
    io::{Error as IoError, ErrorKind},
    net::IpAddr,
    time::Duration,
};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::explain::message;

/// Explains why there is no connection. `setting` is the setting that contains the URL.
pub(super) fn reason(error: &sqlx::Error, setting: &str, options: &PgConnectOptions) -> String {
    let said = message(error);
    let what_to_do = match error {
        sqlx::Error::Tls(_) if said == "server does not support TLS" => no_tls(setting, options),
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => check_files(setting),
        // TLS failed during an exchange.
        sqlx::Error::Io(cause) if cause.kind() == ErrorKind::InvalidData => {
            failed_handshake(&said, setting, options)
        }
        sqlx::Error::Io(cause) => match failed_io(cause, &said, setting, options) {
            Some(what_to_do) => what_to_do,
            None => return said,
        },
        sqlx::Error::Protocol(said) => return wrong_answer(said, setting),
        _ => return said,
    };
    format!("{said}. {what_to_do}")
}

/// Explains why there is no connection if the server did not respond in time.
pub(super) fn no_answer(setting: &str, timeout: Duration) -> String {
    format!(
        "no answer within {timeout:?} (TOLLGATE_DATABASE_ACQUIRE_TIMEOUT). A firewall may drop \
         packets, or the server hangs or is not Postgres. {}",
        check_address(setting)
    )
}

fn check_address(setting: &str) -> String {
    format!("Check the host and the port in {setting}")
}

fn check_files(setting: &str) -> String {
    format!(
        "Check the certificate and key files: sslrootcert, sslcert and sslkey in {setting}, or \
         PGSSLROOTCERT, PGSSLCERT and PGSSLKEY"
    )
}

/// Returns the message for a server without TLS, if the connection requires TLS.
fn no_tls(setting: &str, options: &PgConnectOptions) -> String {
    match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => format!(
            "Enable TLS in Postgres (ssl = on), and set sslrootcert in {setting} to the file of \
             the certificate authority that signed its certificate. With sslmode=verify-full the \
             certificate must also contain the host"
        ),
        _ => format!(
            "A host that is neither a loopback address nor a socket needs TLS. Enable TLS in \
             Postgres (ssl = on). If the server has no TLS and you trust the network in between, \
             add ?sslmode=disable to {setting}, or &sslmode=disable after other parameters"
        ),
    }
}

/// Returns the advice for an error of the operating system. `None` if the error is clear enough.
fn failed_io(
    cause: &IoError,
    said: &str,
    setting: &str,
    options: &PgConnectOptions,
) -> Option<String> {
    let is_socket = options.get_socket().is_some() || options.get_host().starts_with('/');
    let address = check_address(setting);
    Some(match cause.kind() {
        ErrorKind::ConnectionRefused => format!(
            "No program listens there. {address}, and whether Postgres is running and listening \
             on that address (listen_addresses)"
        ),
        ErrorKind::NotFound if is_socket => format!(
            "There is no socket .s.PGSQL.{} in this directory. Check the directory and the port in \
             {setting}, and whether Postgres is running",
            options.get_port()
        ),
        ErrorKind::PermissionDenied if is_socket => {
            "The user of this process may not use the socket. Check unix_socket_permissions of \
             Postgres, and the permissions of the directory"
                .to_owned()
        }
        // A connection to a host opens only certificate and key files.
        ErrorKind::NotFound | ErrorKind::PermissionDenied => check_files(setting),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => {
            format!("The connection was closed before Postgres answered. {address}")
        }
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::TimedOut => {
            format!("{address}, and the network and firewalls between this machine and the host")
        }
        _ if said.starts_with("failed to lookup address information") => format!(
            "The host name cannot be resolved. Check the host in {setting}, and the DNS settings \
             of this machine"
        ),
        _ => return None,
    })
}

/// Explains a response that does not come from Postgres.
fn wrong_answer(said: &str, setting: &str) -> String {
    // sqlx appends the position in its source code.
    let said = said.split(" (sqlx").next().unwrap_or(said);
    let address = check_address(setting);
    if let Some(byte) = said.strip_prefix("unexpected response from SSLRequest: ") {
        return match byte {
            // sqlx read no data, and parsed its empty buffer as the response.
            "0x00" => format!(
                "the connection was closed without an answer, for example by a load balancer that \
                 has no server. {address}, and whether Postgres is running"
            ),
            "0x45" => "the server answered with an error before TLS was set up, as Postgres does \
                       when it cannot start another process. Its log contains the reason"
                .to_owned(),
            _ => format!(
                "the program that answers is not Postgres, but for example a web server. {address}"
            ),
        };
    }
    let foreign = ["unknown message type", "establish: unexpected message"];
    if foreign.iter().any(|text| said.starts_with(*text)) {
        return format!("the program that answers is not Postgres ({said}). {address}");
    }
    said.to_owned()
}

/// Explains why TLS failed. The most common cause is the server's certificate.
fn failed_handshake(said: &str, setting: &str, options: &PgConnectOptions) -> String {
    let host = options.get_host();
    let is = |error: &str| said.contains(error);
    // Rustls accepts neither a CA certificate as a server certificate, nor a certificate without
    // extensions. The commands in the Postgres manual create a CA certificate.
    if is("CaUsedAsEndEntity") || is("UnsupportedCertVersion") {
        return make_certificates(setting, host);
    }
    if is("UnknownIssuer") || is("BadSignature") {
        return format!(
            "No trusted certificate authority has signed the certificate of the server. Set \
             sslrootcert in {setting} to the file of the authority that signed it. Without \
             sslrootcert, only public certificate authorities are trusted"
        );
    }
    if is("not valid for name") || is("NotValidForName") {
        return format!(
            "Write the host in {setting} as in the certificate, or create a certificate whose \
             subjectAltName contains {host:?}. sslmode=verify-ca does not compare names"
        );
    }
    if is("certificate expired") || is("not valid yet") {
        return "Renew the certificate of the server, or correct the clock of this machine"
            .to_owned();
    }
    if is("invalid peer certificate") {
        return make_certificates(setting, host);
    }
    if is("received fatal alert") {
        return format!(
            "Postgres closed the TLS connection, and its log contains the reason. {}",
            check_files(setting)
        );
    }
    format!("TLS could not be set up. {}, and the log of Postgres", check_address(setting))
}

/// Returns the commands that create a certificate authority, and a certificate for this host that
/// the authority signs.
fn make_certificates(setting: &str, host: &str) -> String {
    let kind = if host.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(
        "A server needs its own certificate, signed by a certificate authority. Create both \
         with OpenSSL 3: openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=Postgres \
         CA' -keyout ca.key -out ca.crt && openssl req -x509 -newkey rsa:2048 -nodes -days 365 -CA \
         ca.crt -CAkey ca.key -subj '/CN={host}' -addext 'subjectAltName={kind}:{host}' -addext \
         'basicConstraints=critical,CA:FALSE' -keyout server.key -out server.crt. Then set \
         ssl_cert_file of Postgres to server.crt, ssl_key_file to server.key, and sslrootcert in \
         {setting} to ca.crt"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(host: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass().host(host).password("hunter2")
    }

    fn of(error: sqlx::Error, host: &str) -> String {
        let reason = reason(&error, "DATABASE_URL", &options(host));
        assert!(!reason.contains('\n') && !reason.contains("hunter2"), "{reason}");
        reason
    }

    fn certificate(error: &str) -> sqlx::Error {
        let said = format!("invalid peer certificate: {error}");
        sqlx::Error::Io(IoError::new(ErrorKind::InvalidData, said))
    }

    #[test]
    fn unusable_server_certificate_is_reported_with_the_commands_to_create_one() {
        let own_authority = "Other(OtherError(CaUsedAsEndEntity))";
        let reason = of(certificate(own_authority), "db.example.com");
        assert!(reason.contains("-addext 'subjectAltName=DNS:db.example.com'"), "{reason}");
        assert_eq!(reason.matches("openssl req -x509 ").count(), 2, "{reason}");
        assert!(reason.contains("sslrootcert in DATABASE_URL to ca.crt"), "{reason}");
        for address in ["10.0.0.7", "::1"] {
            let reason = of(certificate(own_authority), address);
            assert!(reason.contains(&format!("subjectAltName=IP:{address}")), "{reason}");
        }
    }

    #[test]
    fn each_certificate_error_has_its_own_advice() {
        for (error, remedy) in [
            ("UnknownIssuer", "Set sslrootcert in DATABASE_URL to the file"),
            ("BadSignature", "Set sslrootcert in DATABASE_URL to the file"),
            (
                "certificate not valid for name \"db\"; certificate is",
                "subjectAltName contains \"db\"",
            ),
            ("certificate expired: verification time 9 (UNIX)", "Renew the certificate"),
            ("certificate not valid yet: verification time 9", "the clock of this machine"),
            ("Revoked", "openssl req -x509"),
        ] {
            let reason = of(certificate(error), "db");
            assert!(reason.contains(error) && reason.contains(remedy), "{reason}");
        }
        let alert = "received fatal alert: CertificateRequired";
        let reason = of(sqlx::Error::Io(IoError::new(ErrorKind::InvalidData, alert)), "db");
        assert!(reason.contains("sslcert and sslkey in DATABASE_URL"), "{reason}");
    }

    #[test]
    fn errors_explain_responses_of_other_programs() {
        for (said, expected) in [
            ("unexpected response from SSLRequest: 0x00", "closed without an answer"),
            ("unexpected response from SSLRequest: 0x45", "answered with an error before TLS"),
            ("unexpected response from SSLRequest: 0x48", "is not Postgres"),
            ("unknown message type: 'x'", "is not Postgres"),
            ("unsupported authentication method: Gss", "unsupported authentication method"),
        ] {
            let said = format!("{said} (sqlx_postgres::connection:1)");
            let reason = of(sqlx::Error::Protocol(said), "db");
            assert!(reason.contains(expected) && !reason.contains("sqlx"), "{reason}");
        }
    }
}
