//! An account owner restricts a key to networks.

use serde_json::json;

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::WALLET;

with_and_without_javascript!(
    owner_restricts_a_key_to_networks_and_adds_the_own_address,
    owner_adopts_a_network_from_which_the_key_was_used,
);

async fn owner_restricts_a_key_to_networks_and_adds_the_own_address(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("0").await;
    let tenant = &world.app.tronagg;
    let key = world.app.key_with(tenant, WALLET, json!({"name": "bot"})).await;
    let status = async || world.call(key.call("GET", "/v1/authorize/tronagg/live")).await.status;
    let networks = async || {
        let answer = world.call(tenant.call("GET", &key.path)).await.expect(200);
        answer.json["allowed_ips"].clone()
    };
    world.sign_in_by_link(tenant, WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    world.open(&page).await;
    world.says("Any address").await;

    // A network with an error is refused at its field, and the page keeps the input.
    world.click("#edit").await;
    world.fill("#allowed_ips", "203.0.113.0/24\n10.0.0.1/8").await;
    world.click("#submit").await;
    world.find("#errors").await;
    assert!(world.text("#allowed_ips-error").await.contains("must be 10.0.0.0/8"));
    assert!(world.has("#allowed_ips[aria-describedby~='allowed_ips-error']").await);
    world.click("#errors a[href='#allowed_ips']").await;
    assert_eq!(world.run("return document.activeElement.id").await, json!("allowed_ips"));
    let value = "return document.querySelector('#allowed_ips').value";
    assert_eq!(world.run(value).await, json!("203.0.113.0/24\n10.0.0.1/8"));
    if scripts == Scripts::On {
        // axe needs JavaScript. The page looks the same without JavaScript.
        world.check_axe("key form with a wrong network").await;
    }

    world.fill("#allowed_ips", "203.0.113.0/24\n10.0.0.0/8").await;
    world.click("#submit").await;
    world.is_at(&page).await;
    world.says("203.0.113.0/24, 10.0.0.0/8").await;
    assert_eq!(networks().await, json!(["203.0.113.0/24", "10.0.0.0/8"]));
    assert_eq!(status().await, 401);

    // The browser connects from the same address as the client of the API.
    world.click("#edit").await;
    assert!(world.text("label[for='own_address']").await.contains("127.0.0.1"));
    world.click("#own_address").await;
    world.click("#submit").await;
    world.is_at(&page).await;
    assert_eq!(networks().await, json!(["203.0.113.0/24", "10.0.0.0/8", "127.0.0.1/32"]));
    assert_eq!(status().await, 200);

    world.click("#edit").await;
    world.fill("#allowed_ips", "").await;
    world.click("#submit").await;
    world.is_at(&page).await;
    world.says("Any address").await;
    assert_eq!(networks().await, serde_json::Value::Null);
    world.open("/dashboard/log").await;
    world.says("Allowed networks: 203.0.113.0/24 10.0.0.0/8 127.0.0.1/32 → none").await;
    world.check_console().await;
}

async fn owner_adopts_a_network_from_which_the_key_was_used(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("0").await;
    let tenant = &world.app.tronagg;
    let key = world.app.key_with(tenant, WALLET, json!({"name": "bot"})).await;
    let call = key.call("GET", "/v1/authorize/tronagg/live").header("User-Agent", "<b>bot</b>");
    assert_eq!(world.app.send_from("203.0.113.7", call.clone()).await.status, 200);
    world.app.flush_usage().await;
    world.sign_in_by_link(tenant, WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    world.open(&page).await;
    world.says("Where this key was used").await;
    assert!(world.text("#last-client").await.contains("<b>bot</b>"));
    assert!(world.text("#networks").await.contains("203.0.113.0/24"));
    if scripts == Scripts::On {
        world.check_axe("key with clients").await;
    }

    world.click("#edit").await;
    world.click("input[value='203.0.113.0/24']").await;
    if scripts == Scripts::On {
        world.check_axe("key form with used networks").await;
    }
    world.click("#submit").await;
    world.is_at(&page).await;
    let answer = world.call(tenant.call("GET", &key.path)).await.expect(200);
    assert_eq!(answer.json["allowed_ips"], json!(["203.0.113.0/24"]));
    assert_eq!(world.app.send_from("198.51.100.7", call).await.status, 401);
    world.app.flush_usage().await;
    world.reload().await;
    let refusals = world.text("#refusals").await;
    assert!(refusals.contains("The address was not in the allowed networks"), "{refusals}");
    assert!(refusals.contains("198.51.100.7"), "{refusals}");
    world.click("#edit").await;
    assert!(!world.has("input[value='203.0.113.0/24']").await, "it is already allowed");
    world.open(&format!("{page}/compromised")).await;
    assert!(world.text("#networks").await.contains("203.0.113.0/24"));
    world.check_console().await;
}
