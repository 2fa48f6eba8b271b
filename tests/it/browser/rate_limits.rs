//! An account owner sees the rate limits of a key and lowers one of them.

use serde_json::json;

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::{WALLET, app::NewKey};

with_and_without_javascript!(
    owner_lowers_a_rate_limit_and_removes_the_lower_number,
    limits_are_shown_without_a_form_if_the_platform_does_not_allow_changes,
);

/// Starts a world in which a key has a rate limit. The browser shows the page of the key.
async fn start(scripts: Scripts, owners_may_lower: bool) -> (World, NewKey) {
    let world = World::start(scripts).await;
    let tenant = &world.app.tronagg;
    world.set_dashboard(tenant, json!({"owner_rate_limits": owners_may_lower})).await;
    world.app.wallet("0").await;
    let limits = json!([{"name": "default", "limit": 1000, "window_seconds": 3600}]);
    let body = json!({"name": "bot", "rate_limits": limits});
    let key = world.app.key_with(tenant, WALLET, body).await;
    world.sign_in_by_link(tenant, WALLET).await;
    world.open(&format!("/dashboard/keys/{}", key.id)).await;
    (world, key)
}

/// Sends a call that counts toward the limits. Returns the status of the response.
async fn call(world: &World, key: &NewKey) -> u16 {
    world.call(key.call("GET", "/v1/authorize/tronagg/live")).await.status
}

async fn owner_lowers_a_rate_limit_and_removes_the_lower_number(scripts: Scripts) {
    let (world, key) = start(scripts, true).await;
    let page = format!("/dashboard/keys/{}", key.id);
    let form = format!("{page}/limits");
    let row = "tr[data-limit='default']";
    assert!(world.text(row).await.contains("1,000 calls per hour"));
    assert_eq!(call(&world, &key).await, 200);

    // A number above the platform's limit is refused at its field.
    world.click("#lower-limits").await;
    world.is_at(&form).await;
    world.fill("#calls-default", "1001").await;
    world.click("#submit").await;
    world.find("#errors").await;
    assert!(world.text("#error-default").await.contains("your platform's limit of 1,000 calls"));
    assert!(world.has("#calls-default[aria-describedby~='error-default']").await);
    world.click("#errors a[href='#calls-default']").await;
    assert_eq!(world.run("return document.activeElement.id").await, json!("calls-default"));
    let value = "return document.querySelector('#calls-default').value";
    assert_eq!(world.run(value).await, json!("1001"));

    world.fill("#calls-default", "2").await;
    world.click("#submit").await;
    world.is_at(&page).await;
    world.says("The limits are saved.").await;
    assert!(world.text(row).await.contains("2 calls per hour"));
    assert_eq!((call(&world, &key).await, call(&world, &key).await), (200, 429));
    world.reload().await;
    assert_eq!(world.text(&format!("{row} [data-label='Remaining']")).await, "0");

    world.click("#lower-limits").await;
    world.is_at(&form).await;
    assert_eq!(world.run(value).await, json!("2"));
    world.fill("#calls-default", "").await;
    world.click("#submit").await;
    world.is_at(&page).await;
    assert!(world.text(row).await.contains("1,000 calls per hour"));
    assert_eq!(call(&world, &key).await, 200);
    world.open("/dashboard/log").await;
    world.says("Lower rate limits: default: 2 → none").await;
    world.check_console().await;
}

async fn limits_are_shown_without_a_form_if_the_platform_does_not_allow_changes(scripts: Scripts) {
    let (world, key) = start(scripts, false).await;
    assert!(world.text("tr[data-limit='default']").await.contains("1,000 calls per hour"));
    assert!(!world.has("#lower-limits").await);
    world.open(&format!("/dashboard/keys/{}/limits", key.id)).await;
    world.says("You cannot change rate limits").await;
    world.check_console().await;
}
