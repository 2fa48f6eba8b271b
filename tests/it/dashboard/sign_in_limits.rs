//! Limits on the number of sign-ins that a client and its networks may begin. Strangers cannot lock
//! an owner out.

use tollgate::{
    http::{ServerLimits, TrustedProxies},
    state::Limits,
};

use super::{
    sign_in::{LOGIN, request_message, send_signature, site_with_policy},
    times,
    visitor::{Page, Site, Visitor, encode},
    wallet::Wallet,
};
use crate::harness::{
    OTHER_WALLET, WALLET,
    listener::{exchange, listen_behind},
};

/// Asserts that the page says how long to wait and keeps the address in its field.
#[track_caller]
fn assert_too_many_sign_ins(page: Page, address: &str) {
    let page = page.expect(429);
    let wait: u64 = page.header("retry-after").expect("a time to wait").parse().expect("seconds");
    assert!((1..=300).contains(&wait), "{wait}");
    page.says("Too many recent sign-in attempts");
    assert!(page.source.contains("aria-invalid=\"true\""), "{page:?}");
    assert!(page.source.contains(&format!("value=\"{address}\"")), "{page:?}");
    assert!(page.source.contains(&format!("action=\"{LOGIN}\"")), "{page:?}");
}

/// Creates a visitor with this client address.
fn visitor_from(site: &Site, address: &str) -> Visitor {
    let mut visitor = site.visitor();
    visitor.address = address.parse().expect("an address");
    visitor
}

#[tokio::test]
async fn client_may_begin_20_sign_ins_for_one_address_in_five_minutes() {
    let site = site_with_policy("create").await;
    for _ in 0..20 {
        request_message(&mut visitor_from(&site, "192.0.2.1"), WALLET).await.expect(200);
    }
    assert_too_many_sign_ins(
        request_message(&mut visitor_from(&site, "192.0.2.1"), WALLET).await,
        WALLET,
    );
    // The limit affects neither other clients nor other addresses.
    request_message(&mut visitor_from(&site, "192.0.2.2"), WALLET).await.expect(200);
    request_message(&mut visitor_from(&site, "192.0.2.1"), OTHER_WALLET).await.expect(200);
    times::age_sign_ins(&site.app, "5 minutes").await;
    request_message(&mut visitor_from(&site, "192.0.2.1"), WALLET).await.expect(200);
}

/// Asserts that the owner of [`WALLET`] can sign in, from the default address.
async fn assert_owner_can_sign_in(site: &Site) {
    let mut owner = site.visitor();
    let page = request_message(&mut owner, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    send_signature(&mut owner, &page, &signature).await.expect_redirect("/dashboard/keys");
}

/// Requests messages for [`WALLET`] from these addresses, one after another. Returns the statuses.
async fn flood(site: &Site, addresses: impl Iterator<Item = String>) -> Vec<u16> {
    let mut stranger = site.visitor();
    let page = stranger.get(LOGIN).await.expect(200);
    let mut statuses = Vec::new();
    for address in addresses {
        stranger.address = address.parse().expect("an address");
        let answer = stranger.send_form(&page, LOGIN, &[("address", WALLET)]).await;
        statuses.push(answer.status);
    }
    statuses
}

#[tokio::test]
async fn sign_in_attempts_from_25_ipv4_addresses_do_not_lock_the_owner_out() {
    let site = site_with_policy("create").await;
    let addresses = (0..500).map(|number| format!("198.51.100.{}", number % 25));
    assert_eq!(flood(&site, addresses).await, [200; 500]);
    assert_owner_can_sign_in(&site).await;
}

#[tokio::test]
async fn sign_in_attempts_from_an_ipv6_56_network_do_not_lock_the_owner_out() {
    let site = site_with_policy("create").await;
    let addresses = (0..500).map(|number| format!("2001:db8:0:{:x}::1", number % 25));
    let statuses = flood(&site, addresses).await;
    assert_eq!((&statuses[..160], &statuses[160..]), (&[200; 160][..], &[429; 340][..]));
    assert_owner_can_sign_in(&site).await;
}

#[tokio::test]
async fn sign_in_limits_apply_to_the_client_that_a_trusted_proxy_names() {
    let site = site_with_policy("create").await;
    let twenty = std::iter::repeat_n("203.0.113.9".to_owned(), 20);
    assert_eq!(flood(&site, twenty).await, [200; 20]);
    let proxies = TrustedProxies::parse("127.0.0.1").expect("an address");
    let (limits, server_limits) = (Limits::default(), ServerLimits::default());
    let server = listen_behind(proxies, &site.app, limits, server_limits).await;
    let mut visitor = site.visitor();
    let csrf = visitor.get(LOGIN).await.expect(200).field(LOGIN, "csrf");
    let (name, token) = visitor.cookies.first_key_value().expect("a cookie of the sign-in page");
    let body = format!("csrf={}&address={WALLET}", encode(&csrf));
    for (forwarded, status) in [
        ("203.0.113.9", 429),
        ("203.0.113.10", 200),
        // The client has forged the first entry.
        ("203.0.113.10, 203.0.113.9", 429),
        ("203.0.113.9, 203.0.113.10", 200),
    ] {
        let request = format!(
            "POST {LOGIN} HTTP/1.1\r\nHost: x\r\nCookie: {name}={token}\r\nOrigin: null\r\n\
             Sec-Fetch-Site: same-origin\r\nX-Forwarded-For: {forwarded}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = exchange(server.address, request.as_bytes()).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{forwarded}: {answer}");
    }
}

#[tokio::test]
async fn wrong_signature_beyond_the_limit_gets_a_429_with_the_time_to_wait() {
    let site = site_with_policy("create").await;
    let mut visitor = site.visitor();
    let mut page = request_message(&mut visitor, WALLET).await.expect(200);
    for _ in 1..20 {
        page = send_signature(&mut visitor, &page, "").await.expect(400);
    }
    assert_too_many_sign_ins(send_signature(&mut visitor, &page, "").await, WALLET);
}

#[tokio::test]
async fn one_client_can_begin_ten_sign_ins_concurrently() {
    let site = site_with_policy("create").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=10 {
        let mut visitor = site.visitor();
        let address = Wallet::of(number).address;
        tasks.spawn(async move { request_message(&mut visitor, &address).await.status });
    }
    assert_eq!(tasks.join_all().await, [200; 10]);
}

#[tokio::test]
async fn client_or_ipv6_network_may_begin_40_sign_ins_in_five_minutes() {
    let site = site_with_policy("create").await;
    let mut number = 0..;
    let mut attempt = async |from: &str| {
        let mut visitor = site.visitor();
        visitor.address = from.parse().expect("an address");
        let wallet = Wallet::of(1 + number.next().expect("endless"));
        request_message(&mut visitor, &wallet.address).await
    };
    for _ in 0..40 {
        attempt("198.51.100.1").await.expect(200);
    }
    let refused = attempt("198.51.100.1").await.expect(429);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    attempt("198.51.100.2").await.expect(200);
    // The limit counts all addresses of a /64 network as one client.
    for host in 0..40 {
        attempt(&format!("2001:db8::{host:x}")).await.expect(200);
    }
    attempt("2001:db8::ffff:1").await.expect(429);
    attempt("2001:db8:0:1::1").await.expect(200);
    times::age_sign_ins(&site.app, "5 minutes").await;
    attempt("198.51.100.1").await.expect(200);
}

#[tokio::test]
async fn ipv6_56_and_48_networks_may_begin_4_and_16_times_as_many_sign_ins_as_a_64_network() {
    let site = site_with_policy("create").await;
    // Each /64 network begins ten sign-ins for this address, which is below its own limit.
    let from_56 = |network: u16, times: u16| {
        let subnet = move |number: u16| (network << 8) | (number / 10);
        (0..times).map(move |number| format!("2001:db8:0:{:x}::1", subnet(number)))
    };
    for network in 0..4 {
        let statuses = flood(&site, from_56(network, 161)).await;
        assert_eq!((&statuses[..160], statuses[160]), (&[200; 160][..], 429), "{network}");
    }
    // After 640 sign-ins, another /56 network of this /48 network may not begin a sign-in.
    assert_eq!(flood(&site, from_56(4, 1)).await, [429]);
    let refused = request_message(&mut visitor_from(&site, "2001:db8:0:ff00::1"), WALLET).await;
    assert_too_many_sign_ins(refused, WALLET);
    // The limit does not affect other /48 networks.
    request_message(&mut visitor_from(&site, "2001:db8:1::1"), WALLET).await.expect(200);
    times::age_sign_ins(&site.app, "5 minutes").await;
    assert_eq!(flood(&site, from_56(4, 1)).await, [200]);
}
