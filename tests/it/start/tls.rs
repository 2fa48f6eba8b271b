//! TLS between Tollgate and Postgres: the hosts for which Tollgate requires TLS, and the warnings
//! that it logs without TLS.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    sync::mpsc,
};

use super::run::{fails, succeeds};
use crate::harness::{
    PATIENCE, cluster,
    process::{Process, tollgate},
    proxy::Proxy,
};

/// Opens a port that replies to each TLS request with `N`, as a Postgres without TLS does. The
/// channel receives the bytes that each client sends afterwards.
fn port_without_tls() -> (u16, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("the listener has an address").port();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("the connection opens");
            let mut request = [0; 8];
            stream.read_exact(&mut request).expect("a request arrives");
            assert_eq!(request, *b"\0\0\0\x08\x04\xd2\x16\x2f", "the client sends an SSLRequest");
            stream.write_all(b"N").expect("the reply is sent");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("the client closes the connection");
            if sender.send(rest).is_err() {
                break;
            }
        }
    });
    (port, received)
}

#[tokio::test]
async fn postgres_on_another_host_is_refused_without_tls() {
    let (port, after_refusal) = port_without_tls();
    // The address 0.0.0.0 connects to this machine, but it is not a loopback address. So the test
    // can use it as the address of another host.
    let other_host = format!("postgres://postgres:hunter2@0.0.0.0:{port}/x");
    let refuses = |mut command: Command, setting: &str| {
        command.env("TOLLGATE_LISTEN", "127.0.0.1:0").env("TOLLGATE_METRICS_LISTEN", "off");
        let error = fails(command);
        let to_do = format!("add ?sslmode=disable to {setting}");
        for part in ["0.0.0.0:", "server does not support TLS", "(ssl = on)", to_do.as_str()] {
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        let rest = after_refusal.recv_timeout(PATIENCE).expect("the client connects");
        assert!(rest.is_empty(), "the client continues without TLS: {rest:?}");
    };
    for arguments in
        [&["serve"][..], &["demo"], &["migrate"], &["tenant", "list"], &["ledger", "verify"]]
    {
        let mut command = tollgate(arguments);
        command.env("DATABASE_URL", &other_host);
        refuses(command, "DATABASE_URL");
    }
    // The connection that listens for changes also needs TLS.
    let mut command = tollgate(&["serve"]);
    command.env("DATABASE_URL", cluster::fresh_database().await);
    command.env("TOLLGATE_LISTEN_DATABASE_URL", &other_host);
    refuses(command, "TOLLGATE_LISTEN_DATABASE_URL");
    // The host may also come from `hostaddr` or PGHOST. PGSSLMODE=prefer does not change the
    // result, because it does not protect the connection.
    let host_address = format!("postgres://postgres@localhost:{port}/x?hostaddr=0.0.0.0");
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", host_address).env("PGSSLMODE", "prefer");
    refuses(command, "DATABASE_URL");
    let mut command = tollgate(&["migrate"]);
    command.env("DATABASE_URL", "postgres:///x");
    command.env("PGHOST", "0.0.0.0").env("PGPORT", port.to_string()).env("PGUSER", "postgres");
    refuses(command, "DATABASE_URL");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_without_tls_is_accepted_on_this_machine_or_if_sslmode_allows_it() {
    let url = cluster::fresh_database().await;
    // The proxy connects to the socket of Postgres, which does not support TLS.
    let proxy = Proxy::start(cluster::socket()).await;
    let url = proxy.url(cluster::database_in(&url)).replace("?sslmode=disable", "");
    let elsewhere = url.replace("127.0.0.1", "0.0.0.0");
    let run = |url: &str, mode: Option<&str>| {
        let mut command = tollgate(&["tenant", "list"]);
        command.env("DATABASE_URL", url).envs(mode.map(|mode| ("PGSSLMODE", mode)));
        succeeds(command)
    };
    for (url, mode) in [
        (url.clone(), None),
        (url.replace("127.0.0.1", "localhost"), None),
        (format!("{elsewhere}?sslmode=disable"), None),
        (format!("{elsewhere}?sslmode=disable"), Some("verify-full")),
        (elsewhere.clone(), Some("disable")),
    ] {
        let log = run(&url, mode);
        assert!(!log.contains("WARN"), "{url}: {log}");
    }
    let log = run(&format!("{elsewhere}?sslmode=prefer"), None);
    assert!(log.contains("WARN") && log.contains("Use sslmode=verify-full"), "{log}");
    assert!(log.contains("a proxy on the network can strip TLS"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_warns_once_if_its_connections_to_another_host_are_not_encrypted() {
    let url = cluster::fresh_database().await;
    let proxy = Proxy::start(cluster::socket()).await;
    let here = proxy.url(cluster::database_in(&url));
    assert!(here.ends_with("?sslmode=disable"), "{here}");
    let elsewhere = here.replace("127.0.0.1", "0.0.0.0");
    let without_mode = elsewhere.replace("?sslmode=disable", "");
    let both = "\"DATABASE_URL, TOLLGATE_LISTEN_DATABASE_URL\"";
    let log = cluster::directory("not-encrypted.log");
    for (variables, expected) in [
        (vec![("DATABASE_URL", &*here)], None),
        (vec![("DATABASE_URL", &*elsewhere)], Some("\"DATABASE_URL\"")),
        (
            vec![("DATABASE_URL", &*without_mode), ("PGSSLMODE", "disable")],
            Some("\"DATABASE_URL\""),
        ),
        (
            vec![("DATABASE_URL", &*here), ("TOLLGATE_LISTEN_DATABASE_URL", &*elsewhere)],
            Some("\"TOLLGATE_LISTEN_DATABASE_URL\""),
        ),
        (
            vec![("DATABASE_URL", &*elsewhere), ("TOLLGATE_LISTEN_DATABASE_URL", &*elsewhere)],
            Some(both),
        ),
    ] {
        let mut command = tollgate(&["serve"]);
        command.envs(variables.iter().copied());
        let (status, text) = Process::start(command, &log).stop();
        assert!(status.success(), "{status}: {text}");
        let warnings: Vec<&str> =
            text.lines().filter(|line| line.contains("are not encrypted")).collect();
        assert_eq!(warnings.len(), usize::from(expected.is_some()), "{variables:?}: {text}");
        for (warning, settings) in warnings.into_iter().zip(expected) {
            for part in ["WARN", "passwords and data", "Use sslmode=verify-full", settings] {
                assert!(warning.contains(part), "{part} is not in: {warning}");
            }
        }
    }
    let _ = std::fs::remove_file(log);
}
