//! Limits, timeouts and shutdown of the HTTP listener.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinHandle};
use tollgate::{
    http::{ServerLimits, TrustedProxies},
    state::Limits,
};

use crate::harness::{
    App, Call, WALLET,
    app::NewKey,
    eventually,
    listener::{Listening, RawClient, exchange, listen, listen_behind},
    process, within_patience,
};

#[tokio::test]
async fn oversized_request_headers_return_431() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let large =
        format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "a".repeat(40_000));
    let answer = exchange(server.address, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many: String = (0..100).map(|number| format!("X-{number}: a\r\n")).collect();
    let many = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    let answer = exchange(server.address, many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let fine = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = exchange(server.address, fine.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn client_that_does_not_complete_its_headers_is_disconnected() {
    let app = App::start().await;
    let short = Duration::from_millis(50);
    let limits =
        ServerLimits { header_timeout: short, idle_timeout: short, ..ServerLimits::default() };
    let server = listen(&app, Limits::default(), limits).await;
    // Each exchange ends when the server closes the connection. The client sends no request, half a
    // request, and one complete request.
    exchange(server.address, b"").await;
    exchange(server.address, b"GET /livez HTTP/1.1\r\nHost:").await;
    let answer = exchange(server.address, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn client_that_does_not_read_responses_is_disconnected() {
    let app = App::start().await;
    let limits = ServerLimits {
        max_connections: 1,
        write_timeout: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let server = listen(&app, Limits::default(), limits).await;
    let mut not_reading = TcpStream::connect(server.address).await.expect("the connection opens");
    // The responses are far larger than the buffers between client and server.
    let request = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    let sent = not_reading.write_all(request.as_bytes());
    within_patience("the server reads the requests", sent).await.expect("the request is sent");
    // The limit is one connection, so the server serves a new client only after it has closed the
    // first connection.
    let fine = "GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answered =
        async || exchange(server.address, fine.as_bytes()).await.starts_with("HTTP/1.1 200");
    eventually("the server serves a new client", answered).await;
}

#[tokio::test]
async fn incomplete_request_body_times_out_with_408() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let limits = Limits { body_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = listen(&app, limits, ServerLimits::default()).await;
    let request = format!(
        "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        key.text
    );
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
}

/// Starts a purchase that waits for the account lock. Returns the transaction that holds the lock,
/// and the purchase.
async fn blocked_purchase(
    app: &App,
    key: &NewKey,
    address: SocketAddr,
) -> (sqlx::Transaction<'static, sqlx::Postgres>, JoinHandle<u16>) {
    let lock = app.lock_accounts().await;
    let call = key.buy("1").idempotency_key("k");
    let purchase = tokio::task::spawn_blocking(move || process::send(address, call).status);
    app.wait_until_blocked(1).await;
    (lock, purchase)
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_finishes_requests_in_flight() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let (lock, purchase) = blocked_purchase(&app, &key, server.address).await;
    server.stop.send(()).expect("the server runs");
    // After the stop, the server accepts no connections, even while a purchase is in flight.
    let refused = async || TcpStream::connect(server.address).await.is_err();
    eventually("the server accepts no connections", refused).await;
    assert!(!server.task.is_finished());
    lock.commit().await.expect("the transaction commits");
    let status = within_patience("the purchase gets a response", purchase).await;
    assert_eq!(status.expect("the task does not panic"), 201);
    let finished = within_patience("the server stops", server.task).await;
    assert!(finished.expect("the task does not panic"), "all requests finished in time");
    app.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_request_times_out_with_503_and_can_be_retried() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let limits = Limits { request_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = listen(&app, limits, ServerLimits::default()).await;
    let (lock, purchase) = blocked_purchase(&app, &key, server.address).await;
    let status = within_patience("the purchase times out", purchase).await;
    assert_eq!(status.expect("the task does not panic"), 503);
    lock.commit().await.expect("the transaction commits");
    let retried = app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    assert_eq!(retried.text("/balance_after"), "9.000000");
    app.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_after_the_drain_timeout() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let limits =
        ServerLimits { drain_timeout: Duration::from_millis(100), ..ServerLimits::default() };
    let server = listen(&app, Limits::default(), limits).await;
    let (lock, purchase) = blocked_purchase(&app, &key, server.address).await;
    server.stop.send(()).expect("the server runs");
    let finished = within_patience("the server stops", server.task).await;
    assert!(!finished.expect("the task does not panic"), "a request is still in flight");
    // In this test, the task of the connection continues. In production, the process exits instead.
    lock.commit().await.expect("the transaction commits");
    let status = within_patience("the purchase gets a response", purchase).await;
    assert_eq!(status.expect("the task does not panic"), 201);
    app.check_ledger().await;
}

/// The test stops the service after the client has sent the request, and before the service has
/// read it.
#[tokio::test]
async fn first_request_on_a_connection_gets_a_response_even_if_the_service_stops() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let mut client = RawClient::connect(server.address).await;
    // The server accepts connections in order, so it has also accepted the first connection.
    let mut second = RawClient::connect(server.address).await;
    assert_eq!(second.get("/livez").await.expect("the server responds").status, 200);
    client.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.stop.send(()).expect("the server runs");
    assert_eq!(client.receive().await.expect("the server responds").status, 200);
    let finished = within_patience("the server stops", server.task).await;
    assert!(finished.expect("the task does not panic"), "all requests finished in time");
}

/// Creates an account with a request that has these `X-Forwarded-For` lines. Returns the client
/// address in the audit event.
async fn audited_address(app: &App, server: &Listening, account: &str, lines: &[&str]) -> String {
    let forwarded: String =
        lines.iter().map(|line| format!("X-Forwarded-For: {line}\r\n")).collect();
    let request = format!(
        "PUT /v1/accounts/{account} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         {forwarded}Connection: close\r\n\r\n",
        app.tradetally.admin_key
    );
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let events = format!("/v1/audit-events?account={account}");
    let events = app.send(app.tradetally.call("GET", &events)).await.expect(200);
    events.text("/data/0/address").to_owned()
}

#[tokio::test]
async fn client_address_is_taken_from_trusted_proxies_only() {
    let app = App::start().await;
    let listen_trusting = async |networks: &str| {
        let proxies = TrustedProxies::parse(networks).expect("the networks are valid");
        listen_behind(proxies, &app, Limits::default(), ServerLimits::default()).await
    };
    let trusting = listen_trusting("127.0.0.1,10.0.0.0/8").await;
    let cases: [(&str, &[&str], &str); 7] = [
        ("named", &["203.0.113.9"], "203.0.113.9"),
        ("behind-two", &["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("spoofed", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("spoofed-line", &["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("version-six", &["[2001:db8::9]:4711"], "2001:db8::9"),
        ("garbage", &["203.0.113.9, unknown"], "127.0.0.1"),
        ("not-named", &[], "127.0.0.1"),
    ];
    for (account, lines, expected) in cases {
        assert_eq!(audited_address(&app, &trusting, account, lines).await, expected, "{account}");
    }
    let trusting_another = listen_trusting("10.0.0.0/8").await;
    let address = audited_address(&app, &trusting_another, "no-proxy", &["203.0.113.9"]).await;
    assert_eq!(address, "127.0.0.1");
    let trusting_none = listen(&app, Limits::default(), ServerLimits::default()).await;
    let address = audited_address(&app, &trusting_none, "no-setting", &["203.0.113.9"]).await;
    assert_eq!(address, "127.0.0.1");
}

#[tokio::test]
async fn networks_of_a_key_are_compared_with_the_address_that_a_trusted_proxy_reports() {
    let app = App::start().await;
    app.wallet("0").await;
    let settings = json!({"name": "a", "allowed_ips": ["203.0.113.0/24"]});
    let key = app.key_with(&app.tronagg, WALLET, settings).await;
    let proxies = TrustedProxies::parse("127.0.0.1").expect("the networks are valid");
    let trusting = listen_behind(proxies, &app, Limits::default(), ServerLimits::default()).await;
    let trusting_none = listen(&app, Limits::default(), ServerLimits::default()).await;
    for (server, forwarded, status) in [
        (&trusting, "203.0.113.9", 200),
        (&trusting, "198.51.100.1, 203.0.113.9", 200),
        (&trusting, "203.0.113.9, 198.51.100.1", 401),
        (&trusting, "203.0.113.9, unknown", 401),
        (&trusting_none, "203.0.113.9", 401),
    ] {
        let request = format!(
            "GET /v1/authorize/tronagg/live HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\
             X-Forwarded-For: {forwarded}\r\nConnection: close\r\n\r\n",
            key.text
        );
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{forwarded}: {answer}");
    }
}

#[tokio::test]
async fn api_documentation_page_loads_nothing_from_other_origins() {
    let app = App::start().await;
    let page = app.send(Call::new("GET", "/docs/")).await.expect(200);
    let page = String::from_utf8(page.body).expect("the text is UTF-8");
    for attribute in ["src=\"", "href=\""] {
        for (_, rest) in page.match_indices(attribute).map(|(at, _)| page.split_at(at)) {
            let target =
                rest[attribute.len()..].split('"').next().expect("a split has a first part");
            assert!(!target.contains("//"), "the page loads {target}");
        }
    }
    let script = app.send(Call::new("GET", "/docs/swagger-initializer.js")).await.expect(200);
    let script = String::from_utf8(script.body).expect("the text is UTF-8");
    assert!(script.contains(r#""url": "/openapi.json""#), "{script}");
    assert!(script.contains(r#""validatorUrl": "none""#), "{script}");
    let document = app.send(Call::new("GET", "/openapi.json")).await.expect(200);
    assert_eq!(document.json["info"]["title"], "Tollgate");
}
