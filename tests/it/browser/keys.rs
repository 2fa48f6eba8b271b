//! An account owner creates, changes, rotates and revokes keys.

use serde_json::{Value, json};
use time::Duration;

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::{
    dashboard::{times, visitor::find_key},
    harness::{WALLET, app::NewKey},
};

with_and_without_javascript!(
    owner_creates_copies_uses_and_revokes_a_key,
    sixth_key_is_refused_and_the_form_keeps_its_input,
    rotated_key_keeps_working_only_if_a_grace_period_is_chosen,
    owner_changes_disables_and_enables_a_key,
    invalid_fields_show_their_errors_and_keep_their_input,
);

async fn start(scripts: Scripts) -> World {
    let world = World::start(scripts).await;
    world.app.wallet("25").await;
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    world
}

async fn key(world: &World, name: &str) -> NewKey {
    world.app.key_with(&world.app.tronagg, WALLET, json!({"name": name})).await
}

/// Lists the keys of the account with the tenant's admin key.
async fn list_keys(world: &World, status: &str) -> Vec<Value> {
    let path = format!("/v1/accounts/{WALLET}/keys?status={status}");
    let answer = world.call(world.app.tronagg.call("GET", &path)).await.expect(200);
    answer.data().to_vec()
}

/// Copies the new key with the copy button, and returns it.
pub async fn copy_new_key(world: &World) -> String {
    let shown = world.text("#new-key").await;
    if world.scripts == Scripts::Off {
        // Without JavaScript, the page hides the copy button.
        assert!(!world.shows("#copy").await);
        return shown;
    }
    let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
    world.driver.devtools("Browser.grantPermissions", permissions).await;
    world.click("#copy").await;
    world.says("The key is copied.").await;
    let read = "const done = arguments[arguments.length - 1];
        navigator.clipboard.readText().then(done, error => done(String(error)))";
    let copied = world.run_async(read, Vec::new()).await;
    assert_eq!(copied, json!(shown));
    shown
}

async fn owner_creates_copies_uses_and_revokes_a_key(scripts: Scripts) {
    let world = start(scripts).await;
    world.says("0 of 5 keys").await;
    world.click("#create-key").await;
    world.is_at("/dashboard/keys/new").await;
    world.fill("#name", "bot <1> & \"co\"").await;
    world.click("#access-write").await;
    world.select("#expires", "90").await;
    world.fill("#limit_amount", "10.5").await;
    world.select("#limit_period", "day").await;
    world.click("#submit").await;
    world.find("#new-key").await;
    world.says("This is the only time you will see this key").await;
    let key = copy_new_key(&world).await;
    assert_eq!(find_key(&key, "ta_").as_deref(), Some(key.as_str()));
    assert_eq!(world.text("#env-line").await, format!("TRONAGG_API_KEY={key}"));
    assert_eq!(world.status(&key).await, 200);
    let made = list_keys(&world, "live").await.remove(0);
    assert_eq!(made["name"], "bot <1> & \"co\"");
    assert_eq!(made["scopes"], json!(["write"]));
    assert!(made["expires_at"].is_string(), "{made}");
    assert_eq!(made["spend_limit"]["amount"], "10.500000");

    // A reload does not show the key again and does not create another key.
    world.reload().await;
    assert!(!world.source().await.contains(&key));
    assert_eq!(list_keys(&world, "all").await.len(), 1);

    world.open("/dashboard/keys").await;
    world.says("1 of 5 keys").await;
    world.says("bot <1> & \"co\"").await;
    assert!(!world.source().await.contains(&key));
    world.click("tr[data-key] .button.danger").await;
    world.says("bot <1> & \"co\"").await;
    world.says("This cannot be undone.").await;
    assert_eq!(world.status(&key).await, 200);
    world.fill("#reason", "left in a chat").await;
    world.click("#confirm-revoke").await;
    world.is_at("/dashboard/keys").await;
    assert_eq!(world.status(&key).await, 401);
    world.says("The key is revoked.").await;
    world.says("0 of 5 keys").await;
    world.click("#show-all").await;
    world.says("Revoked").await;
    world.open("/dashboard/log").await;
    world.says("left in a chat").await;
    world.check_console().await;
}

async fn sixth_key_is_refused_and_the_form_keeps_its_input(scripts: Scripts) {
    let world = start(scripts).await;
    for number in 1..5 {
        key(&world, &format!("key {number}")).await;
    }
    world.open("/dashboard/keys/new").await;
    world.fill("#name", "one too many").await;
    world.click("#access").await;
    // While the form is open, another window creates the fifth key.
    let fifth = key(&world, "key 5").await;
    world.click("#submit").await;
    world.find("#errors").await;
    let typed = world.run("return document.querySelector('#name').value").await;
    assert_eq!(typed, json!("one too many"));
    assert_eq!(list_keys(&world, "live").await.len(), 5);

    world.open("/dashboard/keys").await;
    world.says("5 of 5 keys").await;
    world.click("#make-room").await;
    world.says("Disabled keys count toward the limit.").await;
    world.click(&format!("[data-key='{}'] a.danger", fifth.id)).await;
    world.click("#confirm-revoke").await;
    world.is_at("/dashboard/keys").await;
    world.says("4 of 5 keys").await;
    world.click("#create-key").await;
    world.fill("#name", "the fifth again").await;
    world.click("#submit").await;
    let made = world.text("#new-key").await;
    assert_eq!(world.status(&made).await, 200);
    world.check_console().await;
}

async fn rotated_key_keeps_working_only_if_a_grace_period_is_chosen(scripts: Scripts) {
    let world = start(scripts).await;
    let old = key(&world, "bot").await;
    world.open(&format!("/dashboard/keys/{}", old.id)).await;
    world.click("#rotate").await;
    world.select("#grace", "3600").await;
    world.click("#confirm-rotate").await;
    world.says("The old key works until").await;
    let new = copy_new_key(&world).await;
    assert_ne!(new, old.text);
    assert_eq!((world.status(&old.text).await, world.status(&new).await), (200, 200));
    if scripts == Scripts::On {
        // The button works only if the checkbox is selected. Otherwise the page asks the owner to
        // select it.
        world.click("#done").await;
        let live_text = "return document.querySelector('#live').textContent";
        assert_eq!(world.run(live_text).await, json!("Select the checkbox to continue."));
        assert!(world.has("#new-key").await);
        world.click("#stored").await;
    }
    world.click("#done").await;
    world.is_at("/dashboard/keys").await;
    world.says("1 of 5 keys").await;
    assert!(!world.source().await.contains(&new));

    // Without a grace period the old key stops working immediately.
    let path = format!(
        "/dashboard/keys/{}",
        list_keys(&world, "live").await[0]["id"].as_str().expect("an id")
    );
    world.open(&path).await;
    world.click("#rotate").await;
    world.select("#grace", "0").await;
    world.click("#confirm-rotate").await;
    let newest = world.text("#new-key").await;
    assert_eq!((world.status(&new).await, world.status(&newest).await), (401, 200));
    world.check_console().await;
}

async fn owner_changes_disables_and_enables_a_key(scripts: Scripts) {
    let world = start(scripts).await;
    let key = key(&world, "bot").await;
    let page = format!("/dashboard/keys/{}", key.id);
    world.open(&page).await;
    world.click("#disable").await;
    world.says("The key is disabled.").await;
    assert_eq!(world.status(&key.text).await, 401);
    world.click("#enable").await;
    world.says("The key is enabled.").await;
    assert_eq!(world.status(&key.text).await, 200);

    world.click("#edit").await;
    world.fill("#name", "renamed").await;
    world.click("#access-custom").await;
    world.fill("#scopes", "purchases:read, orders:write").await;
    world.select("#expires", "date").await;
    let last_day = times::now(&world.app).await.date() + Duration::days(30);
    world.set_day("#expires_on", &last_day.to_string()).await;
    world.click("#submit").await;
    world.says("Your changes are saved.").await;
    world.says("renamed").await;
    let changed = list_keys(&world, "live").await.remove(0);
    assert_eq!(changed["name"], "renamed");
    assert_eq!(changed["scopes"], json!(["orders:write", "purchases:read"]));
    let end = format!("{}T00:00:00.000000Z", last_day + Duration::days(1));
    assert_eq!(changed["expires_at"], json!(end));
    assert_eq!(world.status(&key.text).await, 200);
    world.check_console().await;
}

async fn invalid_fields_show_their_errors_and_keep_their_input(scripts: Scripts) {
    let world = start(scripts).await;
    world.open("/dashboard/keys/new").await;
    world.click("#access-custom").await;
    world.fill("#scopes", "Orders: everything").await;
    world.select("#expires", "date").await;
    world.set_day("#expires_on", "2020-01-31").await;
    world.fill("#limit_amount", "1,5").await;
    world.click("#submit").await;
    for field in ["name", "scopes", "expires_on", "limit_amount"] {
        assert!(world.shows(&format!("#{field}-error")).await, "{field}");
        let marked = format!("#{field}[aria-invalid='true'][aria-describedby~='{field}-error']");
        assert!(world.has(&marked).await, "{field}");
        assert!(world.has(&format!("#errors a[href='#{field}']")).await, "{field}");
    }
    for (field, kept) in [
        ("scopes", "Orders: everything"),
        ("expires", "date"),
        ("expires_on", "2020-01-31"),
        ("limit_amount", "1,5"),
    ] {
        let value = world.run(&format!("return document.querySelector('#{field}').value")).await;
        assert_eq!(value, json!(kept), "{field}");
    }
    // The error summary links to the field.
    world.click("#errors a[href='#name']").await;
    let focused = world.run("return document.activeElement.id").await;
    assert_eq!(focused, json!("name"));
    world.fill("#name", "right").await;
    world.fill("#scopes", "orders:read").await;
    world.select("#expires", "never").await;
    world.fill("#limit_amount", "").await;
    world.click("#submit").await;
    world.find("#new-key").await;
    assert_eq!(list_keys(&world, "live").await.len(), 1);
    world.check_console().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_can_be_switched_between_the_local_time_zone_and_utc() {
    let world = start(Scripts::On).await;
    let last_year = times::now(&world.app).await.year() + 1;
    let new_year = last_year + 1;
    let body = json!({"name": "bot", "expires_at": format!("{new_year}-01-01T00:00:00Z")});
    let key = world.app.key_with(&world.app.tronagg, WALLET, body).await;
    let zone = json!({"timezoneId": "America/Lima"});
    world.driver.devtools("Emulation.setTimezoneOverride", zone).await;
    world.open("/dashboard/keys").await;
    // The last day is 31 December, both in Lima and in UTC.
    let expires = format!("tr[data-key='{}'] [data-label='Expires'] time", key.id);
    let in_lima = format!("31 Dec {last_year}, 19:00");
    assert_eq!(world.text(&expires).await, in_lima);
    world.says("Times are in your time zone, America/Lima.").await;
    world.click("#other-zone").await;
    assert_eq!(world.text(&expires).await, format!("1 Jan {new_year}, 00:00 UTC"));
    world.says("Times are in UTC.").await;
    world.click("#other-zone").await;
    assert_eq!(world.text(&expires).await, in_lima);
    world.check_console().await;
}
