//! An account owner reports a key as compromised.

use serde_json::json;

use super::{
    keys, with_and_without_javascript,
    world::{Scripts, World},
};
use crate::harness::{Call, WALLET};

with_and_without_javascript!(compromised_key_is_replaced_and_its_purchases_are_listed);

async fn compromised_key_is_replaced_and_its_purchases_are_listed(scripts: Scripts) {
    let world = World::start(scripts).await;
    world.app.wallet("25").await;
    let body = json!({"name": "bot", "scopes": ["purchases:write", "read"], "expires_in": 864_000});
    let stolen = world.app.key_with(&world.app.tronagg, WALLET, body).await;
    let other = world.app.key(&world.app.tronagg, WALLET).await;
    for (key, amount, reference) in
        [(&stolen, "1.5", "mine"), (&stolen, "2.25", "=not(mine)"), (&other, "3", "of the other")]
    {
        let buy = json!({"amount": amount, "reference": reference});
        let call = Call::new("POST", "/v1/purchases").header("X-API-Key", &key.text);
        world.call(call.json(buy)).await.expect(201);
    }
    world.sign_in_by_link(&world.app.tronagg, WALLET).await;
    world.open(&format!("/dashboard/keys/{}", stolen.id)).await;
    world.click("#compromised").await;
    world.says("We revoke the key immediately and permanently.").await;
    assert_eq!(world.status(&stolen.text).await, 200);
    world.click("#confirm-compromised").await;
    let new = keys::copy_new_key(&world).await;
    assert_eq!(world.status(&stolen.text).await, 401);
    assert_eq!((world.status(&new).await, world.status(&other.text).await), (200, 200));
    let me = world.call(Call::new("GET", "/v1/me").header("X-API-Key", &new)).await.expect(200);
    assert_eq!(me.text("/key/name"), "bot");
    assert_eq!(me.json["key"]["scopes"], json!(["read", "purchases:write"]));
    assert!(me.json["key"]["expires_at"].is_string());

    let table = world.text("#purchases").await;
    for shown in ["mine", "1.5 TRX", "=not(mine)", "2.25 TRX"] {
        assert!(table.contains(shown), "{shown} in {table}");
    }
    assert!(!table.contains("of the other"), "{table}");
    let file = world.download("#csv").await;
    assert!(file.contains("mine") && file.contains("\"'=not(mine)\""), "{file}");
    assert!(!file.contains("of the other"), "{file}");

    world.reload().await;
    assert!(!world.source().await.contains(&new));
    // The owner can open the list of purchases again, starting from a chosen day.
    world.open(&format!("/dashboard/keys/{}/purchases?since=2020-01-01", stolen.id)).await;
    world.says("=not(mine)").await;
    world.open(&format!("/dashboard/keys/{}", stolen.id)).await;
    world.says("Revoked").await;
    world.says("compromised").await;
    world.check_console().await;
    world.app.check_ledger().await;
}
