//! Request bodies that the server does not need, and limits on the number of connections.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::json;
use tollgate::{
    http::{ServerLimits, TrustedProxies},
    state::Limits,
};

use crate::harness::{
    App,
    app::NewKey,
    eventually,
    listener::{RawClient, listen, listen_behind},
};

const ONE_MEGABYTE: usize = 1024 * 1024;

fn with_body(line: &str, headers: &str, length: usize) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    let mut request = head.into_bytes();
    request.resize(request.len() + length, b'a');
    request
}

#[tokio::test]
async fn connection_stays_open_after_a_response_that_did_not_need_the_request_body() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let reader = app
        .key_with(&app.tronagg, wallet, json!({"name": "b", "scopes": ["purchases:read"]}))
        .await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let mut client = RawClient::connect(server.address).await;
    let good = format!("X-API-Key: {}\r\nContent-Type: application/json\r\n", key.text);
    let weak = format!("X-API-Key: {}\r\nContent-Type: application/json\r\n", reader.text);
    let cases = [
        (401, "POST /v1/purchases", "X-API-Key: bad\r\n"),
        (401, "POST /v1/accounts/a/keys", ""),
        (403, "POST /v1/purchases", weak.as_str()),
        (404, "POST /nothing/here", ""),
        (405, "DELETE /v1/purchases", ""),
        (413, "POST /v1/purchases", good.as_str()),
        (403, "POST /dashboard/nothing", ""),
    ];
    for length in [1, 60_000, 900_000, ONE_MEGABYTE] {
        for (status, line, headers) in cases {
            client.send(&with_body(line, headers, length)).await;
            let answer = client.receive().await.expect("the server responds");
            let expected = if status == 413 && length == 1 { 400 } else { status };
            assert_eq!(answer.status, expected, "{line} with {length} bytes: {}", answer.body);
            assert!(!answer.closes(), "{line} with {length} bytes");
        }
    }
    assert_eq!(client.get("/livez").await.expect("the connection is open").status, 200);
}

#[tokio::test]
async fn client_gets_the_response_even_if_its_body_is_too_large_to_discard() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    for request in [
        with_body("POST /v1/purchases", "X-API-Key: bad\r\n", 8 * ONE_MEGABYTE),
        // hyper responds to this request before it reaches the service.
        with_body("POST /v1/purchases", &format!("X-Large: {}\r\n", "a".repeat(40_000)), 500_000),
        b"nonsense\r\n\r\n".repeat(50_000),
    ] {
        let mut client = RawClient::connect(server.address).await;
        client.send(&request).await;
        let answer = client.receive().await.expect("the server responds");
        assert!(matches!(answer.status, 400 | 401 | 431), "{}", answer.head);
        assert!(answer.closes(), "{}", answer.head);
        assert!(client.receive().await.is_none(), "the server closes the connection");
    }
}

#[tokio::test]
async fn client_that_stops_sending_its_body_gets_a_response_and_is_disconnected() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let mut client = RawClient::connect(server.address).await;
    let head = "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    client.send(head.as_bytes()).await;
    let answer = client.receive().await.expect("the server responds");
    assert_eq!((answer.status, answer.closes()), (401, true));
    // The client may send the rest of the body after the response.
    client.send(&[b'a'; 1000]).await;
    assert!(client.receive().await.is_none(), "the server closes the connection");
}

#[tokio::test]
async fn client_that_sends_expect_100_continue_gets_100_only_if_its_body_is_needed() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let head = |key: &str, length: usize| {
        format!(
            "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\
             Content-Type: application/json\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let mut client = RawClient::connect(server.address).await;
    client.send(head("bad", 900_000).as_bytes()).await;
    let answer = client.receive().await.expect("the server responds");
    assert_eq!((answer.status, answer.closes()), (401, true));
    assert!(client.receive().await.is_none(), "the server closes the connection");

    let body = r#"{"amount": "1"}"#;
    let mut client = RawClient::connect(server.address).await;
    client.send(head(&key.text, body.len()).as_bytes()).await;
    assert_eq!(client.receive().await.expect("the server responds").status, 100);
    client.send(body.as_bytes()).await;
    let answer = client.receive().await.expect("the server responds");
    assert_eq!((answer.status, answer.closes()), (201, false));
}

#[tokio::test]
async fn content_length_over_the_limit_of_the_path_is_refused_before_the_body_is_read() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // With these timeouts, the test gets only a response that does not wait for the body.
    let hour = Duration::from_secs(3600);
    let limits = Limits { body_timeout: hour, request_timeout: hour, ..Limits::default() };
    let server = listen(&app, limits, ServerLimits::default()).await;
    let expect = "Expect: 100-continue\r\n";
    let buy = |more: &str, length: u64| {
        format!(
            "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\
             Content-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n",
            key.text
        )
    };
    let configure = |length: u64| {
        format!(
            "PATCH /v1/dashboard-settings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\n{expect}Content-Length: {length}\r\n\r\n",
            app.tronagg.admin_key
        )
    };
    for (request, status) in [
        (buy("", 99_999_999_999) + "{", 413),
        (buy(expect, 99_999_999_999), 413),
        (buy(expect, 16 * 1024 + 1), 413),
        (buy(expect, 16 * 1024), 100),
        // The dashboard settings include a logo, so this path accepts larger bodies.
        (configure(16 * 1024 + 1), 100),
        (configure(64 * 1024 + 1), 413),
    ] {
        let mut client = RawClient::connect(server.address).await;
        client.send(request.as_bytes()).await;
        let answer = client.receive().await.expect("the server responds");
        assert_eq!(answer.status, status, "{request}: {}", answer.body);
        if status == 413 {
            assert!(answer.body.contains("\"code\":\"body_too_large\""), "{}", answer.body);
            assert!(answer.closes(), "{}", answer.head);
        }
    }
}

#[tokio::test]
async fn request_with_more_header_lines_than_the_setting_allows_gets_431() {
    let app = App::start().await;
    let limits = ServerLimits { max_headers: 70, ..ServerLimits::default() };
    let server = listen(&app, Limits::default(), limits).await;
    for (lines, status) in [(69, 200), (70, 431)] {
        let lines: String = (0..lines).map(|number| format!("X-{number}: a\r\n")).collect();
        let mut client = RawClient::connect(server.address).await;
        client.send(format!("GET /livez HTTP/1.1\r\nHost: x\r\n{lines}\r\n").as_bytes()).await;
        assert_eq!(client.receive().await.expect("the server responds").status, status);
    }
}

#[tokio::test]
async fn header_timeout_does_not_close_an_idle_connection() {
    let app = App::start().await;
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_secs(3600),
        ..ServerLimits::default()
    };
    let server = listen(&app, Limits::default(), limits).await;
    let mut idle = RawClient::connect(server.address).await;
    assert_eq!(idle.get("/livez").await.expect("the server responds").status, 200);
    // The server closes a newer connection first, because its client does not complete the headers.
    let mut incomplete = RawClient::connect(server.address).await;
    incomplete.send(b"GET /livez HTTP/1.1\r\n").await;
    assert!(incomplete.receive().await.is_none(), "the server closes the connection");
    assert_eq!(idle.get("/livez").await.expect("the connection is open").status, 200);
    // The header timeout begins with the first byte of the headers.
    idle.send(b"GET /livez HTTP/1.1\r\n").await;
    assert!(idle.receive().await.is_none(), "the server closes the connection");
}

#[tokio::test]
async fn server_closes_the_longest_idle_connection_to_accept_a_new_connection() {
    let app = App::start().await;
    let limits = ServerLimits {
        max_connections: 3,
        max_connections_per_address: Some(3),
        ..ServerLimits::default()
    };
    let server = listen(&app, Limits::default(), limits).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = RawClient::connect(server.address).await;
        assert_eq!(client.get("/openapi.json").await.expect("the server responds").status, 200);
        clients.push(client);
    }
    // The first connection has been idle longest. Now it sends more requests, for more than a
    // millisecond, because the server measures idle time in milliseconds.
    let others_are_idle = Instant::now();
    while others_are_idle.elapsed() <= Duration::from_millis(2) {
        assert_eq!(clients[0].get("/openapi.json").await.expect("the server responds").status, 200);
    }
    let mut newcomer = RawClient::connect_from("127.0.0.2", server.address).await;
    assert_eq!(newcomer.get("/openapi.json").await.expect("the server responds").status, 200);
    assert!(clients[1].receive().await.is_none(), "the server closes the second connection");
    for open in [0, 2] {
        assert_eq!(
            clients[open].get("/openapi.json").await.expect("the connection is open").status,
            200
        );
    }
}

#[tokio::test]
async fn new_connection_of_an_address_at_its_limit_closes_no_idle_connection() {
    let app = App::start().await;
    let limits = ServerLimits {
        max_connections: 4,
        max_connections_per_address: Some(2),
        ..ServerLimits::default()
    };
    let server = listen(&app, Limits::default(), limits).await;
    let mut clients = Vec::new();
    for from in ["127.0.0.3", "127.0.0.3", "127.0.0.2", "127.0.0.2"] {
        let mut client = RawClient::connect_from(from, server.address).await;
        assert_eq!(client.get("/openapi.json").await.expect("the server responds").status, 200);
        clients.push(client);
    }
    for _ in 0..3 {
        let mut greedy = RawClient::connect_from("127.0.0.2", server.address).await;
        assert_eq!(greedy.get("/openapi.json").await.expect("the server responds").status, 503);
    }
    for client in &mut clients {
        assert_eq!(client.get("/openapi.json").await.expect("the connection is open").status, 200);
    }
}

#[tokio::test]
async fn response_that_closes_an_http_1_0_connection_contains_no_keep_alive_header() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let mut client = RawClient::connect(server.address).await;
    let length = 3 * ONE_MEGABYTE;
    let head = format!(
        "POST /v1/purchases HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    let answer = client.receive().await.expect("the server responds");
    assert_eq!(answer.status, 401);
    let head = answer.head.to_lowercase();
    let connection: Vec<_> =
        head.lines().filter_map(|line| line.strip_prefix("connection:")).collect();
    assert_eq!(connection, [" close"]);
}

#[tokio::test]
async fn health_endpoints_respond_while_every_connection_is_busy() {
    let app = App::start().await;
    let limits = ServerLimits { max_connections: 5, ..ServerLimits::default() };
    let server = listen(&app, Limits::default(), limits).await;
    let mut busy = Vec::new();
    for number in 0..5 {
        let from = format!("127.0.1.{number}");
        let mut client = RawClient::connect_from(&from, server.address).await;
        // The client does not send the body, so the server waits for it.
        let head = "POST /v1/keys/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n";
        let admin_key = &app.tronagg.admin_key;
        let head = format!("{head}Authorization: Bearer {admin_key}\r\n\r\n");
        client.send(head.as_bytes()).await;
        busy.push(client);
    }
    let ask = async |path: &str| {
        let mut client = RawClient::connect(server.address).await;
        client.get(path).await.expect("the server responds")
    };
    for path in ["/livez", "/readyz"] {
        let answer = ask(path).await;
        assert_eq!((answer.status, answer.closes()), (200, true), "{path}");
    }
    let answer = ask("/openapi.json").await;
    assert_eq!((answer.status, answer.closes()), (503, true));
    assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
    assert!(answer.body.contains("too many connections"), "{}", answer.body);
    assert!(answer.body.contains("/reference/errors/unavailable.html"), "{}", answer.body);
    drop(busy);
    eventually("the server accepts connections again", async || {
        ask("/openapi.json").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_use_up_the_connections_of_other_addresses() {
    let app = App::start().await;
    let limits = ServerLimits { max_connections: 20, ..ServerLimits::default() };
    let server = listen(&app, Limits::default(), limits).await;
    let mut greedy = Vec::new();
    for number in 0..30 {
        let mut client = RawClient::connect(server.address).await;
        if number < 4 {
            assert_eq!(client.get("/openapi.json").await.expect("the server responds").status, 200);
        } else if number < 8 {
            assert_eq!(client.get("/openapi.json").await.expect("the server responds").status, 503);
        }
        greedy.push(client);
    }
    let mut other = RawClient::connect_from("127.0.0.2", server.address).await;
    assert_eq!(other.get("/openapi.json").await.expect("the server responds").status, 200);

    let proxies = TrustedProxies::parse("127.0.0.1").expect("the address is valid");
    let server = listen_behind(proxies, &app, Limits::default(), limits).await;
    let mut proxied = Vec::new();
    for _ in 0..20 {
        let mut client = RawClient::connect(server.address).await;
        assert_eq!(client.get("/openapi.json").await.expect("the server responds").status, 200);
        proxied.push(client);
    }
}

/// Builds requests for a client that does not read responses. The responses are far larger than the
/// buffers between client and server.
fn unread_lists(key: &NewKey) -> Vec<u8> {
    let request = format!(
        "GET /v1/purchases?limit=100 HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n",
        key.text
    );
    request.repeat(300).into_bytes()
}

/// Creates an account and a key, and enough large purchases to fill a page of a list.
async fn account_with_large_purchases(app: &App) -> (&'static str, NewKey) {
    let wallet = app.wallet("1000").await;
    let key = app.key(&app.tronagg, wallet).await;
    let metadata = json!({"text": "a".repeat(4000)});
    for _ in 0..70 {
        let call = key.call("POST", "/v1/purchases");
        app.send(call.json(json!({"amount": "1", "metadata": metadata}))).await.expect(201);
    }
    (wallet, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn number_of_requests_in_flight_per_key_is_limited() {
    let app = App::start().await;
    let (wallet, key) = account_with_large_purchases(&app).await;
    let other = app.key(&app.tronagg, wallet).await;
    let limits = Limits { in_flight: 2, ..Limits::default() };
    let server = listen(&app, limits, ServerLimits::default()).await;
    let list = async |key: &NewKey| {
        let mut client = RawClient::connect(server.address).await;
        let head = format!("GET /v1/me HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", key.text);
        client.send(head.as_bytes()).await;
        client.receive().await.expect("the server responds")
    };
    let mut not_reading = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::connect(server.address).await;
        client.send(&unread_lists(&key)).await;
        not_reading.push(client);
    }
    // While responses still fit into the buffers of the sockets, requests come and go. Then the key
    // stays at its limit.
    let refused = Cell::new(None);
    eventually("the unread responses keep two requests in flight", async || {
        for _ in 0..20 {
            let answer = list(&key).await;
            if answer.status != 429 {
                return false;
            }
            refused.set(Some(answer));
        }
        true
    })
    .await;
    let refused = refused.take().expect("the server has refused requests");
    assert!(refused.head.contains("\r\nretry-after: 1\r\n"), "{}", refused.head);
    assert!(refused.body.contains("\"code\":\"too_many_in_flight\""), "{}", refused.body);
    // The limit does not apply to other keys, and not to purchases, which have their own queues.
    assert_eq!(list(&other).await.status, 200);
    let body = r#"{"amount": "1"}"#;
    let purchase = format!(
        "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        key.text,
        body.len()
    );
    let mut client = RawClient::connect(server.address).await;
    client.send(purchase.as_bytes()).await;
    assert_eq!(client.receive().await.expect("the server responds").status, 201);
    // Once the clients have disconnected, the key can send requests again.
    drop(not_reading);
    eventually("the key can send requests again", async || list(&key).await.status == 200).await;
}

#[tokio::test]
async fn server_closes_answered_connections_whose_clients_keep_them_open() {
    let app = App::start().await;
    let limits = ServerLimits {
        max_connections: 3,
        max_connections_per_address: Some(3),
        ..ServerLimits::default()
    };
    let server = listen(&app, Limits::default(), limits).await;
    let mut answered = Vec::new();
    for _ in 0..30 {
        let mut client = RawClient::connect(server.address).await;
        client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.receive().await.expect("the server responds").status, 200);
        answered.push(client);
    }
    // The server has closed all connections except the newest, although the clients have not.
    for client in &mut answered[..27] {
        client.closes_at_the_next_byte().await;
    }
}

#[tokio::test]
async fn malformed_chunk_in_an_unneeded_body_closes_the_connection() {
    let app = App::start().await;
    let server = listen(&app, Limits::default(), ServerLimits::default()).await;
    let mut client = RawClient::connect(server.address).await;
    let request =
        "POST /v1/purchases HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    client.send(request.as_bytes()).await;
    let answer = client.receive().await.expect("the server responds");
    assert_eq!((answer.status, answer.closes()), (401, true));
    assert!(client.receive().await.is_none(), "the server closes the connection");
}
