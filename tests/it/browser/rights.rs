//! A session gets its permissions from the admin key that created its link. It shows only the pages
//! and links that these permissions allow.

use serde_json::{Value, json};

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::{Call, WALLET, app::NewKey};

with_and_without_javascript!(
    session_without_the_permission_keys_shows_the_balance_but_no_page_or_button_for_keys,
    session_without_the_permission_audit_shows_keys_but_no_purchase_balance_or_event,
);

const NOT_INCLUDED: &str = "Your link does not include this page";

/// Starts a world with an account, a purchase and an open hold. The browser signs in with a link
/// from an admin key with these permissions. Returns the world and the account's key.
async fn start(scripts: Scripts, permissions: &[&str]) -> (World, NewKey) {
    let world = World::start(scripts).await;
    world.app.wallet("20").await;
    let key = world.app.key(&world.app.tronagg, WALLET).await;
    world.call(key.buy("1.234567")).await.expect(201);
    let hold = key.call("POST", "/v1/holds").json(json!({"amount": "2"}));
    world.call(hold).await.expect(201);
    let admin_key = world.app.tronagg.admin_key_with(&world.app, permissions).await;
    let call = Call::new("POST", "/v1/dashboard-links").bearer(&admin_key);
    let made = world.call(call.json(json!({"account": WALLET}))).await.expect(201);
    world.open(made.text("/url")).await;
    world.click("#continue-as").await;
    (world, key)
}

/// Returns the paths that the navigation links to.
async fn navigation(world: &World) -> Value {
    world.find("nav").await;
    world.run("return [...document.querySelectorAll('nav a')].map(a => a.pathname)").await
}

/// Asserts that no link and no form of the page points to an address that matches this expression.
async fn assert_leads_nowhere(world: &World, expression: &str) {
    let targets = format!(
        "return [...document.querySelectorAll('a[href], form')]
             .map(e => new URL(e.getAttribute('href') ?? e.getAttribute('action'), location))
             .map(url => url.pathname).filter(path => {expression}.test(path))"
    );
    assert_eq!(world.run(&targets).await, json!([]));
}

async fn session_without_the_permission_keys_shows_the_balance_but_no_page_or_button_for_keys(
    scripts: Scripts,
) {
    const KEY_PAGES: &str = "/^\\/dashboard\\/(holds|keys(?!\\/[^\\/]+\\/purchases(\\.csv)?$))/";
    let (world, key) = start(scripts, &["dashboard", "audit"]).await;
    world.is_at("/dashboard/balance").await;
    assert_eq!(navigation(&world).await, json!(["/dashboard/balance", "/dashboard/log"]));
    assert!(world.text("#balance").await.contains("18.765433"));
    assert!(world.text("#held").await.contains("2 TRX"));
    assert_leads_nowhere(&world, KEY_PAGES).await;

    // The key of a statement entry links to the purchases of that key.
    let purchases = format!("/dashboard/keys/{}/purchases", key.id);
    world.click(&format!("#statement a[href='{purchases}']")).await;
    world.is_at(&purchases).await;
    assert!(world.text("#purchases").await.contains("1.234567"));
    assert_leads_nowhere(&world, KEY_PAGES).await;

    world.click("nav a[href='/dashboard/log']").await;
    world.is_at("/dashboard/log").await;
    world.says("Key created").await;
    assert_leads_nowhere(&world, KEY_PAGES).await;

    let key_page = format!("/dashboard/keys/{}", key.id);
    for path in ["/dashboard/keys", "/dashboard/keys/new", "/dashboard/holds", &key_page] {
        world.open(path).await;
        world.says(NOT_INCLUDED).await;
    }
    world.check_console().await;
    world.app.check_ledger().await;
}

async fn session_without_the_permission_audit_shows_keys_but_no_purchase_balance_or_event(
    scripts: Scripts,
) {
    const MONEY_PAGES: &str = "/^\\/dashboard\\/(balance|log$|keys\\/[^\\/]+\\/purchases)/";
    let (world, key) = start(scripts, &["dashboard", "keys"]).await;
    world.is_at("/dashboard/keys").await;
    assert_eq!(navigation(&world).await, json!(["/dashboard/keys"]));
    world.says("1 of 5 keys").await;
    assert!(world.has("#create-key").await);
    assert_leads_nowhere(&world, MONEY_PAGES).await;
    assert!(!world.source().await.contains("1.234567"));

    world.click(&format!("tr[data-key='{}'] th a", key.id)).await;
    world.is_at(&format!("/dashboard/keys/{}", key.id)).await;
    for button in ["#edit", "#rotate", "#disable", "#revoke", "#compromised"] {
        assert!(world.shows(button).await, "{button}");
    }
    assert_leads_nowhere(&world, MONEY_PAGES).await;
    let source = world.source().await;
    for secret in ["1.234567", "18.765433"] {
        assert!(!source.contains(secret), "{secret} in {source}");
    }

    world.click("nav a[href='/dashboard/keys']").await;
    world.click("#open-holds").await;
    world.is_at("/dashboard/holds").await;
    world.find("#holds").await;
    assert!(world.has("nav a[href='/dashboard/keys'][aria-current='page']").await);
    assert_leads_nowhere(&world, MONEY_PAGES).await;

    let purchases = format!("/dashboard/keys/{}/purchases", key.id);
    for path in ["/dashboard/balance", "/dashboard/log", &purchases] {
        world.open(path).await;
        world.says(NOT_INCLUDED).await;
    }
    world.check_console().await;
    world.app.check_ledger().await;
}
