//! The gate in another service, which verifies keys over HTTP with a running Tollgate.

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
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tollgate::{
    auth::{
        ApiKeyLayer, ClientAddress, Denial, Denied, KeyVerifier, Presented, RemoteSettings,
        RemoteVerifier,
    },
    domain::{
        api_key::KeyText,
        rate_limit::Cost,
        tenant::{Environment, Slug},
    },
};
use tower::{Layer as _, ServiceExt as _};

use crate::harness::{Call, PATIENCE, WALLET, app::NewKey, data_dir::DataDir, process::Process};

const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ADMIN_KEY: &str = "tg_admin_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The response of Tollgate for a valid key.
const VALID: &str = r#"{"valid": true, "code": "VALID", "tenant": "tronagg", "environment": "live",
    "key_id": "key_01h455vb4pex5vsknk084sn02q", "account": "user-1", "scopes": ["read"],
    "expires_at": null}"#;

fn text(key: &str) -> KeyText {
    KeyText::parse(key).expect("the key is well formed")
}

/// Builds a verifier with a long timeout for tests.
fn verifier(address: SocketAddr, admin_key: &str) -> Arc<RemoteVerifier> {
    verifier_with(address, admin_key, settings(PATIENCE))
}

fn settings(timeout: Duration) -> RemoteSettings {
    let mut settings = RemoteSettings::default();
    settings.timeout = timeout;
    settings
}

fn verifier_with(
    address: SocketAddr,
    admin_key: &str,
    settings: RemoteSettings,
) -> Arc<RemoteVerifier> {
    let url = format!("http://{address}");
    let verifier = RemoteVerifier::with_settings(&url, &text(admin_key), settings);
    Arc::new(verifier.expect("the URL and the admin key are valid"))
}

/// Sends a request with the key to a TronAgg service behind the gate. Returns the status.
async fn status(verifier: &Arc<RemoteVerifier>, key: &str) -> u16 {
    status_at("tronagg", Environment::Live, verifier, key).await
}

/// Sends a request with the key to a service of this tenant behind the gate. Returns the status.
async fn status_at(
    tenant: &str,
    environment: Environment,
    verifier: &Arc<RemoteVerifier>,
    key: &str,
) -> u16 {
    let tenant: Slug = tenant.parse().expect("the slug is valid");
    let gate = ApiKeyLayer::shared(Arc::clone(verifier), tenant, environment);
    let response = respond(&gate, key).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    status
}

/// Sends a request with the key to a service behind the gate, which does not know the address of
/// the client.
async fn respond(gate: &ApiKeyLayer<RemoteVerifier>, key: &str) -> Response<Body> {
    respond_to(gate, key, None).await
}

/// Sends a request with the key to a service behind the gate, as a client at this address.
async fn respond_to(
    gate: &ApiKeyLayer<RemoteVerifier>,
    key: &str,
    address: Option<&str>,
) -> Response<Body> {
    let inner = tower::service_fn(|_: Request<Body>| async {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert("x-api-key", key.parse().expect("the header value is valid"));
    if let Some(address) = address {
        let address = ClientAddress(address.parse().expect("the address is valid"));
        request.extensions_mut().insert(address);
    }
    gate.layer(inner).oneshot(request).await.expect("the service is infallible")
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
async fn remote_gate_and_local_gate_return_equal_verdicts() {
    let data_dir = DataDir::new("remote");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let settings = json!({"name": "a", "scopes": ["orders:read", "read"], "expires_in": 3600});
    let key = new_key(&service, &admin_key, WALLET, settings);
    let verifier = verifier(service.address, &admin_key);

    let local = service.send(key.call("GET", "/v1/authorize/tronagg/live")).expect(200);
    let me = service.send(key.call("GET", "/v1/me")).expect(200);
    let principal =
        verifier.verify(&Presented::new(&text(&key.text))).await.expect("the key is accepted");
    for (header, value) in [
        ("x-tollgate-tenant", principal.tenant.as_str()),
        ("x-tollgate-environment", principal.environment.as_str()),
        ("x-tollgate-account", principal.account.as_str()),
        ("x-tollgate-key-id", principal.key_id.to_string().as_str()),
        ("x-tollgate-scopes", principal.scopes.to_string().as_str()),
    ] {
        assert_eq!(local.header(header), Some(value), "{header}");
    }
    let expires_at = principal.expires_at.expect("the key has an expiry").to_string();
    assert_eq!(me.text("/key/expires_at"), expires_at);

    let account = format!("/v1/accounts/{WALLET}");
    data_dir.stdout(&["tenant", "suspend", "tronagg"]);
    let verdict = verifier.verify(&Presented::new(&text(&key.text))).await;
    assert_eq!(verdict, Err(Denied::from(Denial::TenantSuspended)));
    assert_eq!(status(&verifier, &key.text).await, 403);
    data_dir.stdout(&["tenant", "resume", "tronagg"]);
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
        // A refusal also names the principal, so that the service can log it.
        let (named, denial) = match verdict {
            Ok(principal) => (Some(principal), None),
            Err(denied) => (denied.principal, Some(denied.reason)),
        };
        assert_eq!(denial, reason);
        assert_eq!(named.map(|named| named.key_id), Some(principal.key_id), "{reason:?}");
    }
    // The first key does not exist, and no tenant has the prefix of the second key.
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
async fn remote_gate_refuses_keys_of_another_tenant_or_environment() {
    let data_dir = DataDir::new("remote-tenant");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let key = new_key(&service, &admin_key, WALLET, json!({"name": "a"}));
    // With TronAgg's admin key, Tollgate accepts TronAgg's keys. A service of another tenant that
    // uses this admin key by mistake must refuse them.
    let own = verifier(service.address, &admin_key);
    assert_eq!(status(&own, &key.text).await, 200);
    assert_eq!(status_at("tradetally", Environment::Live, &own, &key.text).await, 401);
    assert_eq!(status_at("tronagg", Environment::Test, &own, &key.text).await, 401);
    let suspend = Call::new("PATCH", &format!("/v1/accounts/{WALLET}")).bearer(&admin_key);
    service.send(suspend.json(json!({"status": "suspended"}))).expect(200);
    assert_eq!(status(&own, &key.text).await, 403);
    assert_eq!(status_at("tradetally", Environment::Live, &own, &key.text).await, 401);

    // With an admin key of its own tenant, such a service gets no information about TronAgg's keys.
    let other = verifier(service.address, &service.exported("TRADETALLY_ADMIN_KEY"));
    assert_eq!(status_at("tradetally", Environment::Live, &other, &key.text).await, 401);
    stop(service);
}

#[tokio::test]
async fn remote_gate_returns_503_when_its_admin_key_may_not_verify() {
    let data_dir = DataDir::new("remote-admin");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let key = new_key(&service, &admin_key, WALLET, json!({"name": "a"}));
    let admin_key_with = |permissions: &str| {
        let create = ["admin-key", "create", "tronagg", "--json", "--permissions", permissions];
        data_dir.json(&create)["admin_key"].as_str().expect("the key is a string").to_owned()
    };
    for (admin_key, expected) in [
        (admin_key_with("verify"), 200),
        (admin_key_with("accounts,keys,credits,audit,dashboard"), 503),
        (ADMIN_KEY.to_owned(), 503),
    ] {
        assert_eq!(status(&verifier(service.address, &admin_key), &key.text).await, expected);
    }
    stop(service);
}

#[tokio::test]
async fn remote_gate_sends_the_address_of_its_client() {
    let data_dir = DataDir::new("remote-address");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let settings = json!({"name": "a", "allowed_ips": ["203.0.113.0/24", "2001:db8::/48"]});
    let key = new_key(&service, &admin_key, WALLET, settings);
    let verifier = verifier(service.address, &admin_key);
    let tenant = "tronagg".parse().expect("the slug is valid");
    let gate = ApiKeyLayer::shared(verifier, tenant, Environment::Live);
    for (address, status) in [
        (Some("203.0.113.7"), 200),
        (Some("::ffff:203.0.113.7"), 200),
        (Some("2001:db8::7"), 200),
        (Some("198.51.100.7"), 401),
        (Some("::ffff:198.51.100.7"), 401),
        // The remote service itself connects from 127.0.0.1.
        (Some("127.0.0.1"), 401),
        (None, 401),
    ] {
        let response = respond_to(&gate, &key.text, address).await;
        assert_eq!(response.status(), status, "{address:?}");
    }
    stop(service);
}

#[tokio::test]
async fn remote_gate_charges_its_cost_to_the_limits_of_its_scope_and_refuses_as_tollgate_does() {
    let data_dir = DataDir::new("remote-limits");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let limit = |name: &str, scope: &str| json!({"name": name, "limit": 5, "window_seconds": 3600, "scope": scope});
    let limits = [limit("orders", "orders:read"), limit("trades", "trades:read")];
    let settings = json!({"name": "a", "scopes": ["orders:read"], "rate_limits": limits});
    let key = new_key(&service, &admin_key, WALLET, settings);
    let verifier = verifier(service.address, &admin_key);
    let gate = |scope: &str| {
        let tenant = "tronagg".parse().expect("the slug is valid");
        let gate = ApiKeyLayer::shared(Arc::clone(&verifier), tenant, Environment::Live);
        let cost = Cost::try_from(2_i64).expect("the cost is valid");
        gate.require_scope(scope.parse().expect("the scope is valid")).cost(cost)
    };

    // A request without the required scope is not charged.
    for _ in 0..3 {
        let lacking = respond(&gate("orders:write"), &key.text).await;
        assert_eq!(lacking.status(), 403);
        assert!(!lacking.headers().contains_key("ratelimit"), "{lacking:?}");
    }
    let reader = gate("orders:read");
    for (status, left) in [(200, 3), (200, 1), (429, 1), (429, 1)] {
        let response = respond(&reader, &key.text).await;
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(response.status(), status);
        let limit = header("ratelimit").expect("the response has RateLimit");
        assert!(limit.starts_with(&format!("\"orders\";r={left};t=")), "{limit}");
        assert_eq!(header("ratelimit-policy"), Some("\"orders\";q=5;w=3600"));
        let seconds = header("retry-after").map(|seconds| seconds.parse::<u32>());
        match status {
            200 => assert_eq!(seconds, None),
            _ => assert!(matches!(seconds, Some(Ok(1..=3600))), "{seconds:?}"),
        }
    }
    let refused = respond(&reader, &key.text).await.into_body();
    let problem = refused.collect().await.expect("the body can be read").to_bytes();
    let problem: Value = serde_json::from_slice(&problem).expect("the body is JSON");
    assert_eq!(problem["code"], "rate_limited");
    assert_eq!(problem["limit"], "orders");
    assert_eq!(problem["limits"], json!(["orders"]));

    // Tollgate knows the calls of the remote gate.
    let own = service.send(Call::new("GET", &key.path).bearer(&admin_key)).expect(200);
    let remaining: Vec<&Value> = own.json["effective_rate_limits"]
        .as_array()
        .expect("the member is a list")
        .iter()
        .map(|limit| &limit["remaining"])
        .collect();
    assert_eq!(remaining, [&json!(1), &json!(5)]);
    stop(service);
}

#[tokio::test]
async fn remote_verifier_recovers_after_the_service_restarts() {
    let data_dir = DataDir::new("remote-restart");
    let service = data_dir.start(&["serve"]);
    let tenant = data_dir.json(&["tenant", "create", "tronagg", "--prefix", "ta_", "--json"]);
    let admin_key = tenant["admin_key"].as_str().expect("the key is a string");
    service.send(Call::new("PUT", "/v1/accounts/user-1").bearer(admin_key)).expect(201);
    let key = new_key(&service, admin_key, "user-1", json!({"name": "a"})).text;
    let address = service.address.to_string();
    let restart = || data_dir.start(&["serve", "--listen", &address]);
    let verifier = verifier(service.address, admin_key);
    assert_eq!(status(&verifier, &key).await, 200);

    stop(service);
    assert_eq!(status(&verifier, &key).await, 503);
    let service = restart();
    assert_eq!(status(&verifier, &key).await, 200);
    // This time, no request arrives while the service is down. So the verifier does not know that
    // its pooled connection is closed.
    stop(service);
    let service = restart();
    assert_eq!(status(&verifier, &key).await, 200);
    stop(service);
}

/// Starts a fake server. It calls `serve` for every connection on a new thread, and then closes the
/// connection. Returns its address and its count of connections.
fn fake_server(
    serve: impl Fn(&TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("the listener has an address");
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

/// Reads a whole request from the connection. Returns `None` if the client has closed the
/// connection.
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
    let mut body = vec![0; length.expect("the request has a Content-Length")];
    connection.read_exact(&mut body).ok()?;
    let request: Value = serde_json::from_slice(&body).expect("the text is JSON");
    assert_eq!(request, json!({"key": KEY}));
    Some(())
}

fn send(mut connection: &TcpStream, answer: &str) {
    // The client may have disconnected, so an error here is not a failure.
    let _ = connection.write_all(answer.as_bytes());
}

fn answer(connection: &TcpStream, status: &str, body: &str) {
    let length = body.len();
    send(connection, &format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"));
}

#[tokio::test]
async fn closed_keep_alive_connection_causes_no_failed_verification() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    // On each connection, the server responds to one request, and disconnects when it receives the
    // second.
    let (address, _) = fake_server(move |stream| {
        let mut connection = BufReader::new(stream);
        if take_request(&mut connection).is_some() {
            answer(stream, "200 OK", VALID);
            if take_request(&mut connection).is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let verifier = verifier(address, ADMIN_KEY);
    for _ in 0..6 {
        assert_eq!(status(&verifier, KEY).await, 200);
    }
    assert!(dropped.load(Ordering::Relaxed) >= 1, "no connection was reused");
}

#[tokio::test]
async fn verification_is_retried_exactly_once_after_a_closed_connection() {
    let (before_response, first) = fake_server(|_| ());
    let (in_status_line, second) = fake_server(|stream| {
        take_request(&mut BufReader::new(stream)).expect("a request arrives");
        send(stream, "HTTP/1.1 20");
    });
    let (in_body, third) = fake_server(|stream| {
        take_request(&mut BufReader::new(stream)).expect("a request arrives");
        send(stream, "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n{\"valid\"");
    });
    let servers = [(before_response, first), (in_status_line, second), (in_body, third)];
    for (address, connections) in servers {
        assert_eq!(status(&verifier(address, ADMIN_KEY), KEY).await, 503);
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }
}

#[tokio::test]
async fn invalid_verification_response_returns_503_without_a_retry() {
    let too_long = format!("{VALID}{}", " ".repeat(70_000));
    let response = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for text in [
        response("200 OK", "{}"),
        response("200 OK", "<html>"),
        response("200 OK", r#"{"valid": true, "code": "REVOKED"}"#),
        response("200 OK", &too_long),
        response("401 Unauthorized", VALID),
        response("500 Internal Server Error", VALID),
        "HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "good day\r\n\r\n".to_owned(),
    ] {
        let (address, connections) = fake_server(move |stream| {
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
async fn verification_times_out_with_503_if_the_server_sends_no_response() {
    let (address, _) = fake_server(|stream| {
        let mut connection = BufReader::new(stream);
        // The server reads requests and sends nothing until the client disconnects.
        while take_request(&mut connection).is_some() {}
    });
    let verifier = verifier_with(address, ADMIN_KEY, settings(Duration::from_millis(100)));
    let status = tokio::time::timeout(PATIENCE, status(&verifier, KEY)).await;
    assert_eq!(status.expect("the verifier times out"), 503);
}

#[tokio::test]
async fn concurrent_verifications_never_exceed_max_connections() {
    let (current, maximum) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&maximum);
    let (address, _) = fake_server(move |stream| {
        let mut connection = BufReader::new(stream);
        while take_request(&mut connection).is_some() {
            highest.fetch_max(current.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            // If the verifier sent too many requests, they would arrive during this pause.
            std::thread::sleep(Duration::from_millis(10));
            current.fetch_sub(1, Ordering::Relaxed);
            answer(stream, "200 OK", VALID);
        }
    });
    let mut settings = settings(PATIENCE);
    settings.max_connections = 2;
    let verifier = verifier_with(address, ADMIN_KEY, settings);
    let mut verifications = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let verifier = Arc::clone(&verifier);
        verifications.spawn(async move { verifier.verify(&Presented::new(&text(KEY))).await });
    }
    for verdict in verifications.join_all().await {
        assert!(verdict.is_ok(), "{verdict:?}");
    }
    assert!((1..=2).contains(&maximum.load(Ordering::Relaxed)));
}

/// Builds a command that runs `examples/remote_gate.rs`. It does not inherit the environment of
/// this process.
fn example() -> Command {
    let examples = Path::new(env!("CARGO_BIN_EXE_tollgate")).with_file_name("examples");
    let program = examples.join(format!("remote_gate{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} does not exist: `cargo test` builds the examples, `cargo test --test it` does not; run \
         `cargo build --example remote_gate`",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_clear().current_dir(std::env::temp_dir());
    command
}

/// The example as a running process.
struct Example {
    child: Child,
    url: String,
}

impl Example {
    /// Starts the example and waits until it prints its address.
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
        let stdout = example.child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the example prints a line");
        let url = line.trim_end().strip_prefix("listening on ").expect("the line has the address");
        example.url = url.to_owned();
        example
    }

    /// Sends a GET request. Returns the status and the body of the response.
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
        let mut response = request.call().expect("the server responds");
        let body = response.body_mut().read_to_string().expect("the body can be read");
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
    let data_dir = DataDir::new("remote-example");
    let service = data_dir.start(&["demo"]);
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
fn guide_to_rust_services_shows_the_source_of_the_example() {
    let guide = include_str!("../../docs/src/how-to/gate-a-rust-service.md");
    let mut blocks = guide.split("```rust\n").skip(1);
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        panic!("the guide must have exactly one block of Rust")
    };
    let shown = block.split("```").next().expect("a split has a first part");
    // The guide omits the comment at the top of the example, and the attributes for the lints of
    // this repository.
    let example = include_str!("../../examples/remote_gate.rs").lines();
    let program: Vec<&str> = example
        .filter(|line| !line.starts_with("//!") && !line.trim_start().starts_with("#[expect("))
        .collect();
    assert_eq!(shown.trim(), program.join("\n").trim());
}

#[test]
fn remote_gate_example_names_the_missing_setting() {
    for (name, value, missing) in [
        ("TOLLGATE_URL", "http://127.0.0.1:1", "TOLLGATE_ADMIN_KEY"),
        ("TOLLGATE_ADMIN_KEY", ADMIN_KEY, "TOLLGATE_URL"),
    ] {
        let output = example().env(name, value).output().expect("the example runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(missing), "{stderr}");
    }
}
