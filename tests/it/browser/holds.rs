//! An account owner finds an open hold and voids it.

use serde_json::json;

use super::{
    with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::WALLET;

with_and_without_javascript!(owner_finds_an_open_hold_and_voids_it_after_a_confirmation_page);

async fn owner_finds_an_open_hold_and_voids_it_after_a_confirmation_page(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("20").await;
    let key = world.app.key(&world.app.tronagg, WALLET).await;
    let hold = key.call("POST", "/v1/holds");
    let hold = hold.json(json!({"amount": "4", "reference": "basket 7"}));
    let id = world.call(hold).await.expect(201).text("/id").to_owned();
    let status = async || {
        let found = world.call(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
        found.text("/status").to_owned()
    };

    // The list of keys and the balance page link to the holds.
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    world.click("#open-holds").await;
    world.is_at("/dashboard/holds").await;
    world.click("nav a[href='/dashboard/balance']").await;
    world.is_at("/dashboard/balance").await;
    assert!(world.text("#held").await.contains("4 TRX"));
    world.click("#open-holds").await;
    world.is_at("/dashboard/holds").await;
    let void = format!("tr[data-hold='{id}'] .button.danger");
    world.click(&void).await;
    world.is_at(&format!("/dashboard/holds/{id}/void")).await;
    world.says("This cannot be undone.").await;
    let asked = world.text("#hold").await;
    assert!(asked.contains("4 TRX") && asked.contains("basket 7"), "{asked}");
    world.click("#cancel").await;
    world.is_at("/dashboard/holds").await;
    assert_eq!(status().await, "open");

    // The page of the key also lists the hold.
    world.open(&format!("/dashboard/keys/{}", key.id)).await;
    world.click(&void).await;
    world.click("#confirm-void").await;
    world.is_at("/dashboard/holds").await;
    world.says("The hold is voided.").await;
    world.says("No open holds.").await;
    assert_eq!(status().await, "voided");
    world.open("/dashboard/balance").await;
    assert!(world.text("#held").await.starts_with("0 TRX"));
    assert!(!world.has("#open-holds").await);
    world.check_console().await;
    world.app.check_ledger().await;
}
