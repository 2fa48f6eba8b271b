//! The gate of a service elsewhere, which asks a running Tollgate over HTTP.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use serde_json::{Value, json};
use tollgate::{
    auth::{ApiKeyLayer, Denial, Denied, KeyVerifier, Presented, RemoteSettings, RemoteVerifier},
    domain::api_key::KeyText,
};
use tower::{Layer as _, ServiceExt as _};

use crate::harness::{Call, PATIENCE, WALLET, app::NewKey, place::Place, process::Process};

const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ADMIN_KEY: &str = "tg_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a Tollgate says of a key that passes.
const VALID: &str = r#"{"valid": true, "code": "VALID", "tenant": "tronagg", "environment": "live",
    "key_id": "key_01h455vb4pex5vsknk084sn02q", "account": "user-1", "scopes": ["read"],
    "expires_at": null}"#;

fn text(key: &str) -> KeyText {
    KeyText::parse(key).expect("well formed")
}

/// A verifier as patient as the tests are.
fn verifier(address: SocketAddr, admin_key: &str) -> Arc<RemoteVerifier> {
    bounded(address, admin_key, settings(PATIENCE))
}

fn settings(timeout: Duration) -> RemoteSettings {
    let mut settings = RemoteSettings::default();
    settings.timeout = timeout;
    settings
}

fn bounded(address: SocketAddr, admin_key: &str, settings: RemoteSettings) -> Arc<RemoteVerifier> {
    let url = format!("http://{address}");
    let made = RemoteVerifier::with_settings(&url, &text(admin_key), settings);
    Arc::new(made.expect("the URL and the admin key are good"))
}

/// What a service behind the gate answers to a request with the key.
async fn status(verifier: &Arc<RemoteVerifier>, key: &str) -> u16 {
    let inner = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("x-api-key", key.parse().expect("a header value"));
    let gate = ApiKeyLayer::shared(Arc::clone(verifier));
    let response = gate.layer(inner).oneshot(request).await.expect("no error");
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    status
}

fn new_key(service: &Process, admin_key: &str, account: &str, body: Value) -> NewKey {
    let path = format!("/v1/accounts/{account}/keys");
    let created = service.send(Call::new("POST", &path).bearer(admin_key).json(body)).expect(201);
    NewKey {
        text: created.text("/key").to_owned(),
        id: created.text("/id").to_owned(),
        path: format!("{path}/{}", created.text("/id")),
    }
}

fn stop(service: Process) {
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}

#[tokio::test]
async fn remote_gate_gives_the_same_verdicts_as_the_local_gate() {
    let place = Place::new("remote");
    let service = place.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let settings = json!({"name": "a", "scopes": ["orders:read", "read"], "expires_in": 3600});
    let key = new_key(&service, &admin_key, WALLET, settings);
    let verifier = verifier(service.address, &admin_key);

    let local = service.send(key.call("GET", "/v1/authorize")).expect(200);
    let me = service.send(key.call("GET", "/v1/me")).expect(200);
    let principal = verifier.verify(&Presented::new(&text(&key.text))).await.expect("it passes");
    for (header, value) in [
        ("x-tollgate-tenant", principal.tenant.as_str()),
        ("x-tollgate-environment", principal.environment.as_str()),
        ("x-tollgate-account", principal.account.as_str()),
        ("x-tollgate-key-id", principal.key_id.to_string().as_str()),
        ("x-tollgate-scopes", principal.scopes.to_string().as_str()),
    ] {
        assert_eq!(local.header(header), Some(value), "{header}");
    }
    let expires_at = principal.expires_at.expect("it expires").to_string();
    assert_eq!(me.text("/key/expires_at"), expires_at);

    let account = format!("/v1/accounts/{WALLET}");
    let revoke = format!("{}/revoke", key.path);
    for (method, path, body, expected, reason) in [
        ("PATCH", &key.path, json!({"enabled": false}), 401, Some(Denial::Disabled)),
        ("PATCH", &key.path, json!({"enabled": true}), 200, None),
        ("PATCH", &account, json!({"status": "suspended"}), 403, Some(Denial::AccountSuspended)),
        ("PATCH", &account, json!({"status": "active"}), 200, None),
        ("POST", &revoke, json!({"reason": "leaked"}), 401, Some(Denial::Revoked)),
    ] {
        let change = Call::new(method, path).bearer(&admin_key).json(body);
        service.send(change).expect(200);
        assert_eq!(status(&verifier, &key.text).await, expected, "{reason:?}");
        let verdict = verifier.verify(&Presented::new(&text(&key.text))).await;
        // Whose key was refused is known, for the log.
        let (named, said) = match verdict {
            Ok(principal) => (Some(principal), None),
            Err(denied) => (denied.principal, Some(denied.reason)),
        };
        assert_eq!(said, reason);
        assert_eq!(named.map(|named| named.key_id), Some(principal.key_id), "{reason:?}");
    }
    // Never given out, and of no tenant.
    for unknown in [KEY, "zz_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(
            verifier.verify(&Presented::new(&text(unknown))).await,
            Err(Denied::from(Denial::NotFound))
        );
        assert_eq!(status(&verifier, unknown).await, 401);
    }
    stop(service);
}

#[tokio::test]
async fn remote_gate_returns_503_when_its_admin_key_may_not_verify() {
    let place = Place::new("remote-admin");
    let service = place.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let key = new_key(&service, &admin_key, WALLET, json!({"name": "a"}));
    let made_for = |permissions: &str| {
        let create = ["admin-key", "create", "tronagg", "--json", "--permissions", permissions];
        place.json(&create)["admin_key"].as_str().expect("a key").to_owned()
    };
    for (admin_key, expected) in [
        (made_for("verify"), 200),
        (made_for("accounts,keys,credits,audit"), 503),
        (ADMIN_KEY.to_owned(), 503),
    ] {
        assert_eq!(status(&verifier(service.address, &admin_key), &key.text).await, expected);
    }
    stop(service);
}

#[tokio::test]
async fn remote_verifier_recovers_after_the_service_restarts() {
    let place = Place::new("remote-restart");
    let service = place.start(&["serve"]);
    let tenant = place.json(&["tenant", "create", "tronagg", "--prefix", "ta_", "--json"]);
    let admin_key = tenant["admin_key"].as_str().expect("a key");
    service.send(Call::new("PUT", "/v1/accounts/user-1").bearer(admin_key)).expect(201);
    let key = new_key(&service, admin_key, "user-1", json!({"name": "a"})).text;
    let address = service.address.to_string();
    let start_again = || place.start(&["serve", "--listen", &address]);
    let verifier = verifier(service.address, admin_key);
    assert_eq!(status(&verifier, &key).await, 200);

    stop(service);
    assert_eq!(status(&verifier, &key).await, 503);
    let service = start_again();
    assert_eq!(status(&verifier, &key).await, 200);
    // This time nobody asks in between: the connection that was kept is dead, and not yet known to
    // be so when the next request comes.
    stop(service);
    let service = start_again();
    assert_eq!(status(&verifier, &key).await, 200);
    stop(service);
}

/// A server that is no Tollgate. Every connection is given to `serve`, on a thread of its own, and
/// closed after it; the second one returned is how many came.
fn pretend(serve: impl Fn(&TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let (serve, count) = (Arc::new(serve), Arc::clone(&connections));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            count.fetch_add(1, Ordering::Relaxed);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(&stream));
        }
    });
    (address, connections)
}

/// Takes a whole request off the connection; `None`: there is none any more.
fn take_request(connection: &mut impl BufRead) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /v1/keys/verify HTTP/1.1\r\n"), "{head}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        if name.eq_ignore_ascii_case("content-length") { value.parse().ok() } else { None }
    });
    let mut body = vec![0; length.expect("the length of the body is said")];
    connection.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(request, json!({"key": KEY}));
    Some(())
}

fn send(mut connection: &TcpStream, answer: &str) {
    // Who is gone needs no answer.
    let _ = connection.write_all(answer.as_bytes());
}

fn answer(connection: &TcpStream, status: &str, body: &str) {
    let length = body.len();
    send(connection, &format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"));
}

#[tokio::test]
async fn dead_keep_alive_connection_fails_no_verification() {
    let died = Arc::new(AtomicUsize::new(0));
    let deaths = Arc::clone(&died);
    // Each connection answers once, and is closed when it is asked again.
    let (address, _) = pretend(move |stream| {
        let mut connection = BufReader::new(stream);
        if take_request(&mut connection).is_some() {
            answer(stream, "200 OK", VALID);
            if take_request(&mut connection).is_some() {
                deaths.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let verifier = verifier(address, ADMIN_KEY);
    for _ in 0..6 {
        assert_eq!(status(&verifier, KEY).await, 200);
    }
    assert!(died.load(Ordering::Relaxed) >= 1, "no connection was kept");
}

#[tokio::test]
async fn verification_is_retried_exactly_once_after_a_closed_connection() {
    let (at_once, first) = pretend(|_| ());
    let (in_the_answer, second) = pretend(|stream| {
        take_request(&mut BufReader::new(stream)).expect("a request");
        send(stream, "HTTP/1.1 20");
    });
    let (in_the_body, third) = pretend(|stream| {
        take_request(&mut BufReader::new(stream)).expect("a request");
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{\"valid\"");
    });
    let servers = [(at_once, first), (in_the_answer, second), (in_the_body, third)];
    for (address, connections) in servers {
        assert_eq!(status(&verifier(address, ADMIN_KEY), KEY).await, 503);
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn invalid_verification_response_returns_503_without_a_retry() {
    let long = format!("{VALID}{}", " ".repeat(70_000));
    let headed = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for text in [
        headed("200 OK", "{}"),
        headed("200 OK", "<html>"),
        headed("200 OK", r#"{"valid": true, "code": "REVOKED"}"#),
        headed("200 OK", &long),
        headed("401 Unauthorized", VALID),
        headed("500 Internal Server Error", VALID),
        "HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "good day\r\n\r\n".to_owned(),
    ] {
        let (address, connections) = pretend(move |stream| {
            let mut connection = BufReader::new(stream);
            while take_request(&mut connection).is_some() {
                send(stream, &text);
            }
        });
        assert_eq!(status(&verifier(address, ADMIN_KEY), KEY).await, 503);
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn silent_server_times_out_with_503() {
    let (address, _) = pretend(|stream| {
        let mut connection = BufReader::new(stream);
        // Until the other side closes.
        while take_request(&mut connection).is_some() {}
    });
    let verifier = bounded(address, ADMIN_KEY, settings(Duration::from_millis(100)));
    let answered = tokio::time::timeout(PATIENCE, status(&verifier, KEY)).await;
    assert_eq!(answered.expect("it does not wait for ever"), 503);
}

#[tokio::test]
async fn concurrent_verifications_never_exceed_max_connections() {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&most);
    let (address, _) = pretend(move |stream| {
        let mut connection = BufReader::new(stream);
        while take_request(&mut connection).is_some() {
            highest.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // Long enough for the others to come, if they may.
            std::thread::sleep(Duration::from_millis(10));
            now.fetch_sub(1, Ordering::Relaxed);
            answer(stream, "200 OK", VALID);
        }
    });
    let mut settings = settings(PATIENCE);
    settings.max_connections = 2;
    let verifier = bounded(address, ADMIN_KEY, settings);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let verifier = Arc::clone(&verifier);
        asking.spawn(async move { verifier.verify(&Presented::new(&text(KEY))).await });
    }
    for verdict in asking.join_all().await {
        assert!(verdict.is_ok(), "{verdict:?}");
    }
    assert!((1..=2).contains(&most.load(Ordering::Relaxed)));
}

/// `examples/remote_gate.rs`, with nothing of this process's settings.
fn example() -> Command {
    let examples = Path::new(env!("CARGO_BIN_EXE_tollgate")).with_file_name("examples");
    let program = examples.join(format!("remote_gate{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is not there: `cargo test` builds the examples, `cargo test --test it` does not; run \
         `cargo build --example remote_gate`",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_clear().current_dir(std::env::temp_dir());
    command
}

/// The example, as a process.
struct Example {
    child: Child,
    url: String,
}

impl Example {
    /// Starts it and waits until it says where it listens.
    fn start(tollgate: SocketAddr, admin_key: &str) -> Self {
        let child = example()
            .arg("127.0.0.1:0")
            .env("TOLLGATE_URL", format!("http://{tollgate}"))
            .env("TOLLGATE_ADMIN_KEY", admin_key)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the example starts");
        let mut example = Self { child, url: String::new() };
        let stdout = example.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("it prints a line");
        let url = line.trim_end().strip_prefix("listening on ").expect("where it listens");
        example.url = url.to_owned();
        example
    }

    /// The status and the body of its answer.
    fn get(&self, path: &str, key: Option<&str>) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let mut request = agent.get(format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.header("X-API-Key", key);
        }
        let mut response = request.call().expect("an answer");
        let body = response.body_mut().read_to_string().expect("the whole answer");
        (response.status().as_u16(), body)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn remote_gate_example_protects_a_service_with_a_running_tollgate() {
    let place = Place::new("remote-example");
    let service = place.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let settings = json!({"name": "a", "scopes": ["orders:read"]});
    let key = new_key(&service, &admin_key, WALLET, settings);
    let example = Example::start(service.address, &admin_key);
    let read = || example.get("/orders", Some(&key.text));

    assert_eq!(read(), (200, format!("the orders of {WALLET}\n")));
    let (status, body) = example.get("/orders/new", Some(&key.text));
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("insufficient_scope"), "{body}");
    assert_eq!(example.get("/orders", None).0, 401);
    let revoke = Call::new("POST", &format!("{}/revoke", key.path)).bearer(&admin_key);
    service.send(revoke).expect(200);
    assert_eq!(read().0, 401);
    stop(service);
    assert_eq!(read().0, 503);
}

#[test]
fn remote_gate_example_names_the_missing_setting() {
    for (name, value, missing) in [
        ("TOLLGATE_URL", "http://127.0.0.1:1", "TOLLGATE_ADMIN_KEY"),
        ("TOLLGATE_ADMIN_KEY", ADMIN_KEY, "TOLLGATE_URL"),
    ] {
        let output = example().env(name, value).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(missing), "{said}");
    }
}
