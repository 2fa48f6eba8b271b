//! Error messages for wrong database addresses. Each message is one line that says what is wrong
//! and what to check. No message contains the password.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use super::run::fails;
use crate::harness::{cluster, process::tollgate};

/// The response of a web server that is not Postgres.
const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/// Opens a port that answers each message of a client with the next of these replies, and then
/// closes the connection.
fn port_that_answers(answers: &[&'static [u8]]) -> u16 {
    let answers = answers.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("the listener has an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut message = [0; 4096];
            for answer in answers.iter().copied().chain([&b""[..]]) {
                // The client may have disconnected.
                if stream.read(&mut message).unwrap_or(0) == 0 || stream.write_all(answer).is_err()
                {
                    break;
                }
            }
        }
    });
    port
}

/// Opens a port that accepts connections and never sends anything.
fn frozen_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("the listener has an address").port();
    std::thread::spawn(move || {
        let _open: Vec<_> = listener.incoming().map_while(Result::ok).collect();
    });
    port
}

/// A wrong address, and parts of the expected error.
struct Case {
    host: String,
    parameters: &'static str,
    patience: &'static str,
    parts: &'static [&'static str],
}

fn case(host: String, parts: &'static [&'static str]) -> Case {
    Case { host, parameters: "", patience: "30s", parts }
}

fn cases() -> Vec<Case> {
    let local = |port: u16| format!("127.0.0.1:{port}");
    let tls = "?sslmode=verify-full&sslrootcert=/nonexistent/ca.crt";
    vec![
        case(
            "no-such-host.invalid:5432".to_owned(),
            &["failed to lookup address information", "Check the host in "],
        ),
        case(
            local(1),
            &["Connection refused", "No program listens there. Check the host and the port"],
        ),
        case("%2Fnonexistent:5433".to_owned(), &["no socket .s.PGSQL.5433 in this directory"]),
        case(
            local(port_that_answers(&[HTTP])),
            &["the program that answers is not Postgres", "Check the host and the port in "],
        ),
        case(
            local(port_that_answers(&[])),
            &["the connection was closed without an answer", "load balancer"],
        ),
        case(
            local(port_that_answers(&[b"E"])),
            &["answered with an error before TLS was set up", "Its log contains the reason"],
        ),
        case(
            local(port_that_answers(&[b"N"])),
            &["The connection was closed before Postgres answered. Check the host and the port"],
        ),
        Case {
            patience: "1s",
            ..case(
                local(frozen_port()),
                &["no answer within 1s (TOLLGATE_DATABASE_ACQUIRE_TIMEOUT)", "Check the host and "],
            )
        },
        Case {
            parameters: tls,
            ..case(
                local(port_that_answers(&[b"S"])),
                &[
                    "No such file or directory",
                    "Check the certificate and key files",
                    "sslrootcert",
                ],
            )
        },
        Case {
            parameters: "?sslcert=/nonexistent/client.crt",
            ..case(
                local(port_that_answers(&[b"S"])),
                &["must be given together", "sslcert and sslkey in "],
            )
        },
        Case {
            parameters: "?sslmode=require",
            ..case(
                local(port_that_answers(&[b"S", HTTP])),
                &["TLS could not be set up. Check the host and the port in "],
            )
        },
        Case {
            parameters: "?sslmode=verify-full",
            ..case(
                local(port_that_answers(&[b"N"])),
                &["server does not support TLS", "Enable TLS in Postgres (ssl = on)"],
            )
        },
    ]
}

#[test]
fn wrong_address_error_is_one_line_that_says_what_to_check() {
    for Case { host, parameters, patience, parts } in cases() {
        let mut command = tollgate(&["migrate"]);
        let url = format!("postgres://app:hun%2Fter2@{host}/ledger{parameters}");
        command.env("DATABASE_URL", url).env("TOLLGATE_DATABASE_ACQUIRE_TIMEOUT", patience);
        let error = fails(command);
        assert!(error.starts_with("error: cannot reach Postgres at "), "{error}");
        assert!(error.contains(", database ledger: "), "{error}");
        for part in parts {
            assert!(error.contains(*part), "{part} is not in: {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("hun") && !error.contains("ter2"), "{error}");
    }
}

#[tokio::test]
async fn error_about_a_wrong_listener_address_names_its_setting() {
    let mut command = tollgate(&["serve", "--listen", "127.0.0.1:0"]);
    command.env("DATABASE_URL", cluster::fresh_database().await);
    command.env("TOLLGATE_LISTEN_DATABASE_URL", "postgres://app:hunter2@127.0.0.1:1/ledger");
    command.env("TOLLGATE_METRICS_LISTEN", "off");
    let error = fails(command);
    let expected = "Check the host and the port in TOLLGATE_LISTEN_DATABASE_URL";
    assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
}
