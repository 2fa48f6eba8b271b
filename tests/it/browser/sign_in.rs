//! Account owners sign in by link or by wallet, and sign out.

use serde_json::json;

use super::{
    provider::{self, LOGIN, VERIFY},
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::{
    dashboard::{times, visitor, wallet::Wallet},
    harness::{WALLET, eventually},
};

with_and_without_javascript!(
    link_signs_in_once_and_signing_out_ends_the_session,
    link_without_a_referrer_signs_in_only_after_a_confirmation_page,
    wallet_sign_in_creates_an_account,
    invalid_signature_is_refused_on_the_same_page,
);

async fn link_signs_in_once_and_signing_out_ends_the_session(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("12.5").await;
    let tenant = &world.app.tronagg;
    let back = format!("{}/dashboard/signed-out?from=platform", world.url);
    world.set_dashboard(tenant, json!({"return_origins": [world.url]})).await;
    let link = world.link_with(tenant, json!({"account": WALLET, "return_url": back})).await;
    world.open_link(&link).await;
    // The token is neither in the address bar nor in the referrer.
    assert_eq!(world.run("return [location.search, document.referrer]").await, json!(["", ""]));
    assert!(world.has(&format!("#return[href='{back}']")).await);
    world.click("nav a[href='/dashboard/balance']").await;
    world.says("12.5 TRX").await;
    world.click("#log-out").await;
    world.says("You are signed out").await;
    assert!(world.has(&format!("main a[href='{back}']")).await);
    for path in ["/dashboard/keys", "/dashboard/balance", "/dashboard/log"] {
        world.open(path).await;
        world.is_at("/dashboard/signed-out").await;
    }
    world.open(&link).await;
    world.says("This link has been used or has expired").await;

    // Signing out everywhere also ends a second session of the account.
    world.sign_in_by_link(tenant, WALLET).await;
    let other = world.link(tenant, WALLET).await;
    let mut phone = visitor::visitor_at(&world.app, &world.url);
    let path = other.strip_prefix(&world.url).expect("it is at the public URL").to_owned();
    phone.open_link(&path).await.expect_redirect("/dashboard/keys");
    world.open("/dashboard/log").await;
    world.click("#log-out-everywhere").await;
    world.is_at("/dashboard/signed-out").await;
    phone.get("/dashboard/keys").await.expect_redirect("/dashboard/signed-out");
    world.check_console().await;
}

async fn link_without_a_referrer_signs_in_only_after_a_confirmation_page(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("0").await;
    let tenant = &world.app.tronagg;
    let change = json!({"name": "TronAgg & Co", "return_origins": [world.url]});
    world.set_dashboard(tenant, change).await;
    let link = world.link(tenant, WALLET).await;
    // Opening the link several times does not use it up.
    for _ in 0..2 {
        world.open(&link).await;
        let asked = world.text("#enter").await;
        assert!(asked.contains("TronAgg & Co") && asked.contains(WALLET), "{asked}");
        assert_eq!(cookies(&world).await, Vec::<String>::new());
        assert_eq!(world.run("return document.forms.length").await, json!(1));
    }
    world.open("/dashboard/keys").await;
    world.is_at("/dashboard/signed-out").await;
    world.open_link(&link).await;
    assert_eq!(cookies(&world).await, ["tollgate_session"]);
    world.says("0 of 5 keys").await;
    assert!(world.has(&format!("#account[title='{WALLET}']")).await);
    world.check_console().await;
}

/// Returns the names of the browser's cookies.
async fn cookies(world: &World) -> Vec<String> {
    let cookies = world.client().get_all_cookies().await.expect("the cookies");
    cookies.iter().map(|cookie| cookie.name().to_owned()).collect()
}

async fn wallet_sign_in_creates_an_account(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.set_dashboard(&world.app.tronagg, json!({"wallet_sign_in": "create"})).await;
    provider::install(&world, WALLET).await;
    let message = provider::request_message(&world, WALLET).await;
    let host = world.url.strip_prefix("http://").expect("a URL").to_owned();
    assert!(message.starts_with(&format!("{host} asks you to sign in to ")), "{message}");
    assert!(message.contains(WALLET) && message.contains("costs nothing"), "{message}");
    provider::submit_signature(&world, &Wallet::first().sign(&message)).await;
    world.is_at("/dashboard/keys").await;
    world.says("0 of 5 keys").await;
    assert!(world.has(&format!("#account[title='{WALLET}']")).await);
    world.check_console().await;
}

async fn invalid_signature_is_refused_on_the_same_page(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("0").await;
    world.set_dashboard(&world.app.tronagg, json!({"wallet_sign_in": "existing"})).await;
    provider::install(&world, WALLET).await;
    let wallet = Wallet::first();
    let first = provider::request_message(&world, WALLET).await;
    let right = wallet.sign(&first);
    let spent = nonce(&world).await;

    // The wallet of another account has signed the message.
    provider::submit_signature(&world, &Wallet::of(2).sign(&first)).await;
    assert_signature_refused(&world, &spent).await;
    // The signature is valid, but the failed attempt has used up the nonce.
    let fresh = nonce(&world).await;
    provider::message(&world).await;
    let script = "document.querySelector('#signature-form [name=nonce]').value = arguments[0]";
    world.client().execute(script, vec![json!(spent)]).await.expect("the script runs");
    provider::submit_signature(&world, &right).await;
    assert_signature_refused(&world, &fresh).await;
    // The message has expired.
    let late = nonce(&world).await;
    let message = provider::message(&world).await;
    times::age_sign_ins(&world.app, "5 minutes").await;
    provider::submit_signature(&world, &wallet.sign(&message)).await;
    assert_signature_refused(&world, &late).await;
    // This signature has the format of old wallets.
    let old = nonce(&world).await;
    let message = provider::message(&world).await;
    provider::submit_signature(&world, &wallet.sign_legacy(&message)).await;
    assert_signature_refused(&world, &old).await;

    world.open("/dashboard/keys").await;
    world.is_at("/dashboard/signed-out").await;
    // Afterwards, a valid signature is accepted.
    let message = provider::request_message(&world, WALLET).await;
    provider::submit_signature(&world, &wallet.sign(&message)).await;
    world.is_at("/dashboard/keys").await;

    // The sign-in page reports an invalid address, and keeps the address in the field.
    world.open(LOGIN).await;
    world.fill("#address", "TNotAnAddress").await;
    world.click("#continue").await;
    world.find("#address-error").await;
    let typed = world.run("return document.querySelector('#address').value").await;
    assert_eq!(typed, json!("TNotAnAddress"));
    world.check_console().await;
}

async fn nonce(world: &World) -> String {
    let nonce = world.run("return document.querySelector('#signature-form [name=nonce]').value");
    nonce.await.as_str().expect("a text").to_owned()
}

/// Asserts that the page shows an error at the field and a new message to sign.
async fn assert_signature_refused(world: &World, nonce_before: &str) {
    let is_new = async || {
        let script = "return document.querySelector('#signature-form [name=nonce]')?.value";
        let nonce = world.run_or_null(script).await;
        nonce.as_str().is_some_and(|nonce| nonce != nonce_before)
            && world.has("#signature-error").await
    };
    eventually("the page has a new message", is_new).await;
    world.is_at(VERIFY).await;
    assert!(world.shows("#signature-error").await && world.shows("#errors").await);
    let title = world.client().title().await.expect("a title");
    assert!(title.starts_with("Error: "), "{title}");
}
