//! Account owners sign in with a wallet that signs a message.

use serde_json::json;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    visitor::{LOOPBACK, Page, SECURE, Site, Visitor},
    wallet::Wallet,
};
use crate::harness::{OTHER_WALLET, WALLET};

pub const LOGIN: &str = "/dashboard/tronagg/login";
const VERIFY: &str = "/dashboard/tronagg/login/verify";

/// The error for a nonce that was used, has expired, or belongs to another address, host or
/// browser.
const MESSAGE_UNUSABLE: &str = "This message was already used or has expired";

/// Starts a site whose tenant has this policy for wallet sign-in.
pub async fn site_with_policy(policy: &str) -> Site {
    site_with_policy_at(LOOPBACK, policy).await
}

async fn site_with_policy_at(url: &'static str, policy: &str) -> Site {
    let site = Site::start_at(url).await;
    let change = json!({"wallet_sign_in": policy, "name": "TronAgg"});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    site
}

/// Requests a message for this address.
pub async fn request_message(visitor: &mut Visitor, address: &str) -> Page {
    visitor.submit(LOGIN, LOGIN, &[("address", address)]).await
}

/// Submits a signature with the form on the page that shows the message.
pub async fn send_signature(visitor: &mut Visitor, page: &Page, signature: &str) -> Page {
    visitor.send_form(page, VERIFY, &[("signature", signature)]).await
}

async fn count_accounts(site: &Site) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM accounts");
    count.fetch_one(&site.app.pool).await.expect("a number")
}

#[tokio::test]
async fn wallet_signs_in_to_its_account() {
    let site = site_with_policy("existing").await;
    site.app.wallet("7").await;
    let mut visitor = site.visitor();
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    send_signature(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    visitor.get("/dashboard/balance").await.expect(200).says("7 TRX");
    // The cookie of the sign-in page has been removed.
    let cookies: Vec<_> = visitor.cookies.keys().collect();
    assert_eq!(cookies, ["tollgate_last", "tollgate_session"]);
    assert_eq!(visitor.cookies["tollgate_last"], "live.tronagg");
}

#[tokio::test]
async fn sign_in_message_names_the_host_account_nonce_and_expiry() {
    let site = site_with_policy_at(SECURE, "existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let message = page.message();
    let nonce = page.field(VERIFY, "nonce");
    assert_eq!(nonce.len(), 43);
    let (before, times) = message.split_once("Issued At: ").expect("an issue time");
    assert_eq!(
        before,
        format!(
            "keys.example.com asks you to sign in to TronAgg with your TRON account:\n{WALLET}\n\n\
             Signing proves that the account is yours. It costs nothing and moves no funds.\n\n\
             URI: https://keys.example.com\nNonce: {nonce}\n"
        )
    );
    let (issued, expires) = times.split_once("\nExpires At: ").expect("an expiry");
    let time = |text: &str| OffsetDateTime::parse(text, &Rfc3339).expect("a time");
    assert_eq!(time(expires) - time(issued), Duration::minutes(5));
    let cookie = visitor.cookies.keys().next().expect("a cookie of the sign-in page");
    assert_eq!(cookie, "__Host-tollgate_sign_in");
}

#[tokio::test]
async fn signature_is_accepted_in_every_supported_format() {
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    for number in 0..3 {
        let mut visitor = site.visitor();
        let page = request_message(&mut visitor, WALLET).await.expect(200);
        let signature = Wallet::first().sign(&page.message());
        let (body, v) = signature.split_at(signature.len() - 2);
        let spelling = match number {
            // tronpy writes v as 0 or 1, without the prefix 0x.
            0 => format!("{}{}", &body[2..], if v == "1b" { "00" } else { "01" }),
            1 => signature[2..].to_ascii_uppercase(),
            _ => format!("  {signature}\n"),
        };
        send_signature(&mut visitor, &page, &spelling).await.expect_redirect("/dashboard/keys");
    }
}

#[tokio::test]
async fn invalid_signature_is_refused_with_a_new_message_on_the_same_page() {
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let mut page = request_message(&mut visitor, WALLET).await.expect(200);
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
        page = send_signature(&mut visitor, &page, &signature).await.expect(400);
        assert!(page.source.contains("<title>Error: "), "{kind}: {page:?}");
        assert!(page.source.contains("aria-invalid=\"true\""), "{kind}: {page:?}");
        // The page contains a new message, because the attempt has used up the old message.
        let nonce = page.field(VERIFY, "nonce");
        assert!(!nonces.contains(&nonce), "{kind}");
        nonces.push(nonce);
        visitor.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    }
    // A valid signature of the newest message is accepted.
    let signature = wallet.sign(&page.message());
    send_signature(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
}

/// Computes a second signature of a message from the first signature. Anybody can do this, because
/// ECDSA signatures are malleable. Tollgate must refuse the second signature.
fn with_high_s(signature: &str) -> String {
    // The order of the curve secp256k1.
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
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let signature = wallet.sign(&page.message());
    // Another browser submits the nonce and the owner's signature of the message.
    let mut attacker = site.visitor();
    let attacker_page = request_message(&mut attacker, WALLET).await.expect(200);
    let nonce = page.field(VERIFY, "nonce");
    let fields = [("nonce", nonce.as_str()), ("signature", signature.as_str())];
    attacker.send_form(&attacker_page, VERIFY, &fields).await.expect(400).says(MESSAGE_UNUSABLE);
    attacker.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");

    // The attempt of the other browser has not used up the message. A used message opens no second
    // session, even in its own browser.
    let mut copy = visitor.clone();
    send_signature(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    send_signature(&mut copy, &page, &signature).await.expect(400).says(MESSAGE_UNUSABLE);
    copy.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
}

#[tokio::test]
async fn ten_concurrent_uses_of_one_signature_open_one_session() {
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    let page = request_message(&mut visitor, WALLET).await.expect(200);
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
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    let wallet = Wallet::first();
    let mut visitor = site.visitor();
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    // Only the stored expiry changes. The message that the wallet signs does not change.
    let expire = "UPDATE dashboard_sign_ins SET expires_at = expires_at - interval '5 minutes'";
    sqlx::query(expire).execute(&site.app.pool).await.expect("the update succeeds");
    let signature = wallet.sign(&page.message());
    let page = send_signature(&mut visitor, &page, &signature).await.expect(400);
    page.says(MESSAGE_UNUSABLE);

    // The form contains the nonce of one address and a signature that is valid for another address.
    let second = Wallet::of(2);
    site.app.account(&site.app.tronagg, &second.address, "0").await;
    let signature = second.sign(&page.message().replace(WALLET, &second.address));
    let fields = [("address", second.address.as_str()), ("signature", signature.as_str())];
    visitor.send_form(&page, VERIFY, &fields).await.expect(400).says(MESSAGE_UNUSABLE);

    // The form contains the nonce of one host and a signature that is valid at another host.
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let message = page.message();
    assert_eq!(message.matches("127.0.0.1:8080").count(), 2, "{message}");
    let signature = wallet.sign(&message.replace("127.0.0.1:8080", "localhost:9999"));
    let mut elsewhere = super::visitor::visitor_at(&site.app, "http://localhost:9999");
    elsewhere.cookies.clone_from(&visitor.cookies);
    send_signature(&mut elsewhere, &page, &signature).await.expect(400).says(MESSAGE_UNUSABLE);
    visitor.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    elsewhere.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
}

#[tokio::test]
async fn tenant_policy_decides_which_wallets_may_sign_in() {
    let site = Site::start().await;
    let mut visitor = site.visitor();
    // Wallet sign-in is off by default, and always off if account ids are not TRON addresses.
    visitor.get(LOGIN).await.expect(404);
    visitor.get("/dashboard/tradetally/login").await.expect(404);
    visitor.get("/dashboard/nobody/login").await.expect(404);
    visitor.get("/dashboard/tronagg/test/login").await.expect(404);

    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let refused = send_signature(&mut visitor, &page, &signature).await;
    assert!(matches!(refused.status, 400 | 404), "{refused:?}");
    assert_eq!(count_accounts(&site).await, 0);

    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "create"})).await.expect(200);
    // A wrong signature creates no account.
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let page =
        send_signature(&mut visitor, &page, &Wallet::of(2).sign(&page.message())).await.expect(400);
    assert_eq!(count_accounts(&site).await, 0);
    let signature = Wallet::first().sign(&page.message());
    send_signature(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
    assert_eq!(count_accounts(&site).await, 1);
    visitor.get("/dashboard/keys").await.expect(200).says("0 of 5");
}

#[tokio::test]
async fn invalid_address_is_refused_with_an_error_at_its_field() {
    let site = site_with_policy("create").await;
    let mut visitor = site.visitor();
    for wrong in ["", "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HD", "0x7e5f", "<script>alert(1)</script>"] {
        let page = request_message(&mut visitor, wrong).await.expect(400);
        assert!(page.source.contains("<title>Error: "), "{page:?}");
        assert!(page.source.contains("aria-invalid=\"true\""), "{page:?}");
        page.says(wrong);
        assert!(!page.source.contains("<script>alert"), "{page:?}");
    }
    let padded = format!("  {WALLET} ");
    request_message(&mut visitor, &padded).await.expect(200);
}

#[tokio::test]
async fn sign_in_form_needs_the_cookie_of_its_own_page() {
    let site = site_with_policy("existing").await;
    site.app.wallet("0").await;
    let mut visitor = site.visitor();
    // The cookie of the page is missing, or belongs to another page.
    visitor.post(LOGIN, &[("address", WALLET)]).await.expect(403);
    let page = request_message(&mut visitor, WALLET).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let mut other = site.visitor();
    send_signature(&mut other, &page, &signature).await.expect(403);
    other.get(LOGIN).await.expect(200);
    send_signature(&mut other, &page, &signature).await.expect(403);
    // The refused requests have not used up the message.
    send_signature(&mut visitor, &page, &signature).await.expect_redirect("/dashboard/keys");
}
