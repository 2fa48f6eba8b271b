//! The way in by a wallet that signs a message.

use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    times,
    visitor::{LOOPBACK, Page, SECURE, Site, Visitor},
    wallet::Wallet,
};
use crate::harness::{OTHER_WALLET, WALLET};

const LOGIN: &str = "/dashboard/tronagg/login";
const VERIFY: &str = "/dashboard/tronagg/login/verify";

/// What is said of a nonce that does not fit, whoever signed.
const SPENT: &str = "This message was used before or is too old";

/// A site on which wallets may sign in.
async fn site(policy: &str) -> Site {
    site_at(LOOPBACK, policy).await
}

async fn site_at(url: &'static str, policy: &str) -> Site {
    let site = Site::start_at(url).await;
    let change = json!({"wallet_sign_in": policy, "name": "TronAgg"});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    site
}

/// The page with the message for this address.
async fn ask(visitor: &mut Visitor, address: &str) -> Page {
    visitor.submit(LOGIN, LOGIN, &[("address", address)]).await
}

/// Sends a signature by the form of the page with the message.
async fn send(visitor: &mut Visitor, page: &Page, signature: &str) -> Page {
    visitor.send_form(page, VERIFY, &[("signature", signature)]).await
}

async fn accounts(site: &Site) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM accounts");
    count.fetch_one(&site.app.pool).await.expect("a number")
}

#[tokio::test]
async fn a_wallet_signs_in_to_its_account() {
    let site = site("existing").await;
    site.app.wallet("7").await;
    let mut visitor = site.visitor();
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    send(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    visitor.get("/dashboard/balance").await.expect(200).says("7.000000");
    // What the sign-in page had to remember is of no more use.
    let cookies: Vec<_> = visitor.cookies.keys().collect();
    assert_eq!(cookies, ["tollgate_last", "tollgate_session"]);
    assert_eq!(visitor.cookies["tollgate_last"], "live.tronagg");
}

#[tokio::test]
async fn sign_in_message_names_the_host_account_nonce_and_expiry() {
    let site = site_at(SECURE, "existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let message = page.message();
    let nonce = page.field(VERIFY, "nonce");
    assert_eq!(nonce.len(), 43);
    let (before, times) = message.split_once("Issued At: ").expect("it says when it was made");
    assert_eq!(
        before,
        format!(
            "keys.example.com asks you to sign in to TronAgg with your TRON account:\n{WALLET}\n\n\
             Signing proves that the account is yours. It costs nothing and moves no funds.\n\n\
             URI: https://keys.example.com\nNonce: {nonce}\n"
        )
    );
    let (issued, expires) = times.split_once("\nExpires At: ").expect("and until when it is good");
    let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).expect("a time");
    assert_eq!(time(expires) - time(issued), Duration::minutes(5));
    let cookie = visitor.cookies.keys().next().expect("the browser is remembered");
    assert_eq!(cookie, "__Host-tollgate_sign_in");
}

#[tokio::test]
async fn signature_is_accepted_in_every_supported_spelling() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    for number in 0..3 {
        let mut visitor = site.visitor();
        let page = ask(&mut visitor, WALLET).await.expect(200);
        let signature = Wallet::first().sign(&page.message());
        let (body, v) = signature.split_at(signature.len() - 2);
        let written = match number {
            // As tronpy writes it: v is 0 or 1, and nothing stands in front.
            0 => format!("{}{}", &body[2..], if v == "1b" { "00" } else { "01" }),
            1 => signature[2..].to_ascii_uppercase(),
            _ => format!("  {signature}\n"),
        };
        send(&mut visitor, &page, &written).await.expect_redirect("/dashboard/keys");
    }
}

#[tokio::test]
async fn invalid_signature_is_refused_with_a_new_message_on_the_same_page() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let mut page = ask(&mut visitor, WALLET).await.expect(200);
    let mut nonces = vec![page.field(VERIFY, "nonce")];
    for kind in ["another wallet", "legacy", "another message", "cut short", "high s", "empty"] {
        let message = page.message();
        let signature = match kind {
            "another wallet" => Wallet::of(2).sign(&message),
            "legacy" => wallet.sign_legacy(&message),
            "another message" => wallet.sign(&message.replace("costs nothing", "costs little")),
            "cut short" => wallet.sign(&message)[..130].to_owned(),
            "high s" => with_high_s(&wallet.sign(&message)),
            _ => String::new(),
        };
        page = send(&mut visitor, &page, &signature).await.expect(400);
        assert!(page.source.contains("<title>Error: "), "{kind}: {page:?}");
        assert!(page.source.contains("aria-invalid=\"true\""), "{kind}: {page:?}");
        // There is a fresh message: the other was used up.
        let nonce = page.field(VERIFY, "nonce");
        assert!(!nonces.contains(&nonce), "{kind}");
        nonces.push(nonce);
        visitor.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    }
    // With which the right signature passes at last.
    let signature = wallet.sign(&page.message());
    send(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
}

/// The other signature of the same message, which anybody can make out of this one.
fn with_high_s(signature: &str) -> String {
    // The order of the group.
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let byte = |at: usize| u8::from_str_radix(&signature[at..at + 2], 16).expect("hex");
    let mut high = [0; 32];
    let mut borrow = 0;
    for place in (0..32).rev() {
        let s = i16::from(byte(2 + 64 + 2 * place));
        let difference = i16::from(N[place]) - s - borrow;
        borrow = i16::from(difference < 0);
        high[place] = u8::try_from(difference.rem_euclid(256)).expect("a byte");
    }
    let s: String = high.iter().map(|byte| format!("{byte:02x}")).collect();
    let v = if byte(130) == 27 { 28 } else { 27 };
    format!("{}{s}{v:02x}", &signature[..66])
}

#[tokio::test]
async fn message_is_valid_for_one_attempt_in_one_browser() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = wallet.sign(&page.message());
    // Somebody who was shown the message elsewhere, and got it signed.
    let mut thief = site.visitor();
    let theirs = ask(&mut thief, WALLET).await.expect(200);
    let nonce = page.field(VERIFY, "nonce");
    let fields = [("nonce", nonce.as_str()), ("signature", signature.as_str())];
    thief.send_form(&theirs, VERIFY, &fields).await.expect(400).says(SPENT);
    thief.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");

    // Used once, it opens nothing more: not with the same browser either.
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = wallet.sign(&page.message());
    let mut copy = visitor.clone();
    send(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    send(&mut copy, &page, &signature).await.expect(400).says(SPENT);
    copy.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
}

#[tokio::test]
async fn ten_concurrent_uses_of_one_signature_open_one_session() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let mut fields = page.hidden(VERIFY);
    fields.push(("signature".to_owned(), signature));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (mut visitor, fields) = (visitor.clone(), fields.clone());
        tasks.spawn(async move {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            visitor.post(VERIFY, &fields).await.status
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (303, &[400; 9][..]));
}

#[tokio::test]
async fn message_is_valid_for_five_minutes_one_address_and_one_host() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let page = ask(&mut visitor, WALLET).await.expect(200);
    // It alone: the message that is signed is the one that was given out.
    let expire = "UPDATE dashboard_sign_ins SET expires_at = expires_at - interval '5 minutes'";
    sqlx::query(expire).execute(&site.app.pool).await.expect("it is moved");
    let signature = wallet.sign(&page.message());
    let page = send(&mut visitor, &page, &signature).await.expect(400);
    page.says(SPENT);

    // The nonce of one address with another, whose owner signs what would be right for that.
    let second = Wallet::of(2);
    site.app.account(&site.app.tronagg, &second.address, "0").await;
    let signature = second.sign(&page.message().replace(WALLET, &second.address));
    let fields = [("address", second.address.as_str()), ("signature", signature.as_str())];
    visitor.send_form(&page, VERIFY, &fields).await.expect(400).says(SPENT);

    // And that of one host at another, with the message as it would be there.
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let message = page.message();
    assert_eq!(message.matches("127.0.0.1:8080").count(), 2, "{message}");
    let signature = wallet.sign(&message.replace("127.0.0.1:8080", "localhost:9999"));
    let mut elsewhere = super::visitor::at(&site.app, "http://localhost:9999");
    elsewhere.cookies.clone_from(&visitor.cookies);
    send(&mut elsewhere, &page, &signature).await.expect(400).says(SPENT);
    visitor.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    elsewhere.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
}

#[tokio::test]
async fn tenant_policy_decides_which_wallets_may_sign_in() {
    let site = Site::start().await;
    let mut visitor = site.visitor();
    // Off, unless the tenant has said otherwise; and where accounts are no addresses, always.
    visitor.get(LOGIN).await.expect(404);
    visitor.get("/dashboard/tradetally/login").await.expect(404);
    visitor.get("/dashboard/nobody/login").await.expect(404);
    visitor.get("/dashboard/tronagg/test/login").await.expect(404);

    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let refused = send(&mut visitor, &page, &signature).await;
    assert!(matches!(refused.status, 400 | 404), "{refused:?}");
    assert_eq!(accounts(&site).await, 0);

    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "create"})).await.expect(200);
    // Not before it is known whose it is.
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let page = send(&mut visitor, &page, &Wallet::of(2).sign(&page.message())).await.expect(400);
    assert_eq!(accounts(&site).await, 0);
    let signature = Wallet::first().sign(&page.message());
    send(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    assert_eq!(accounts(&site).await, 1);
    visitor.get("/dashboard/keys").await.expect(200).says("0 of 5");
}

#[tokio::test]
async fn invalid_address_is_refused_with_an_error_at_its_field() {
    let site = site("create").await;
    let mut visitor = site.visitor();
    for wrong in ["", "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HD", "0x7e5f", "<script>alert(1)</script>"] {
        let page = ask(&mut visitor, wrong).await.expect(400);
        assert!(page.source.contains("<title>Error: "), "{page:?}");
        assert!(page.source.contains("aria-invalid=\"true\""), "{page:?}");
        page.says(wrong);
        assert!(!page.source.contains("<script>alert"), "{page:?}");
    }
    let padded = format!("  {WALLET} ");
    ask(&mut visitor, &padded).await.expect(200);
}

/// The page that says how long to wait, with the address in its field.
#[track_caller]
fn refused(page: Page, address: &str) {
    let page = page.expect(429);
    let wait: u64 = page.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=300).contains(&wait), "{wait}");
    page.says("Too many sign-ins were begun of late");
    assert!(page.source.contains("aria-invalid=\"true\""), "{page:?}");
    assert!(page.source.contains(&format!("value=\"{address}\"")), "{page:?}");
    assert!(page.source.contains(&format!("action=\"{LOGIN}\"")), "{page:?}");
}

/// A browser somewhere else.
fn from(site: &Site, address: &str) -> Visitor {
    let mut visitor = site.visitor();
    visitor.address = address.parse().expect("an address");
    visitor
}

#[tokio::test]
async fn client_may_begin_20_sign_ins_for_one_address_in_five_minutes() {
    let site = site("create").await;
    for _ in 0..20 {
        ask(&mut from(&site, "192.0.2.1"), WALLET).await.expect(200);
    }
    refused(ask(&mut from(&site, "192.0.2.1"), WALLET).await, WALLET);
    // Nobody is locked out by that: not the owner of the address, nor the client from others.
    ask(&mut from(&site, "192.0.2.2"), WALLET).await.expect(200);
    ask(&mut from(&site, "192.0.2.1"), OTHER_WALLET).await.expect(200);
    times::age_sign_ins(&site.app, "5 minutes").await;
    ask(&mut from(&site, "192.0.2.1"), WALLET).await.expect(200);
}

#[tokio::test]
async fn address_may_have_500_sign_ins_by_all_clients() {
    let site = site("create").await;
    ask(&mut from(&site, "192.0.2.1"), WALLET).await.expect(200);
    // As if 498 others had begun one.
    let many = "INSERT INTO dashboard_sign_ins (tenant_id, nonce_hash, address, browser_hash, host,
                                             client, issued_at, expires_at)
                SELECT tenant_id, sha256(number::text::bytea), address, browser_hash, host,
                       'client ' || number, issued_at, expires_at
                FROM dashboard_sign_ins, generate_series(1, 498) AS number";
    sqlx::query(many).execute(&site.app.pool).await.expect("they are there");
    ask(&mut from(&site, "192.0.2.2"), WALLET).await.expect(200);
    refused(ask(&mut from(&site, "192.0.2.3"), WALLET).await, WALLET);
    ask(&mut from(&site, "192.0.2.3"), OTHER_WALLET).await.expect(200);
}

#[tokio::test]
async fn wrong_signature_beyond_the_limit_gets_a_429_with_the_time_to_wait() {
    let site = site("create").await;
    let mut visitor = site.visitor();
    let mut page = ask(&mut visitor, WALLET).await.expect(200);
    for _ in 1..20 {
        page = send(&mut visitor, &page, "").await.expect(400);
    }
    refused(send(&mut visitor, &page, "").await, WALLET);
}

#[tokio::test]
async fn one_client_can_begin_ten_sign_ins_concurrently() {
    let site = site("create").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=10 {
        let mut visitor = site.visitor();
        let address = Wallet::of(number).address;
        tasks.spawn(async move { ask(&mut visitor, &address).await.status });
    }
    assert_eq!(tasks.join_all().await, [200; 10]);
}

#[tokio::test]
async fn client_or_ipv6_network_may_begin_40_sign_ins_in_five_minutes() {
    let site = site("create").await;
    let mut number = 0..;
    let mut attempt = async |from: &str| {
        let mut visitor = site.visitor();
        visitor.address = from.parse().expect("an address");
        let wallet = Wallet::of(1 + number.next().expect("there is no end"));
        ask(&mut visitor, &wallet.address).await
    };
    for _ in 0..40 {
        attempt("198.51.100.1").await.expect(200);
    }
    let refused = attempt("198.51.100.1").await.expect(429);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    attempt("198.51.100.2").await.expect(200);
    // Whoever has an IPv6 address has 2^64 of them.
    for host in 0..40 {
        attempt(&format!("2001:db8::{host:x}")).await.expect(200);
    }
    attempt("2001:db8::ffff:1").await.expect(429);
    attempt("2001:db8:0:1::1").await.expect(200);
    times::age_sign_ins(&site.app, "5 minutes").await;
    attempt("198.51.100.1").await.expect(200);
}

#[tokio::test]
async fn sign_in_form_needs_the_cookie_of_its_own_page() {
    let site = site("existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    // Without the cookie of the page, or with that of another.
    visitor.post(LOGIN, &[("address", WALLET)]).await.expect(403);
    let page = ask(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let mut other = site.visitor();
    send(&mut other, &page, &signature).await.expect(403);
    other.get(LOGIN).await.expect(200);
    send(&mut other, &page, &signature).await.expect(403);
    // Nothing was used up by that.
    send(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
}
