//! The dashboard follows the rules of the account's plan.

use serde_json::json;

use super::visitor::Site;
use crate::harness::WALLET;

async fn set_plan(site: &Site, settings: serde_json::Value) {
    let tronagg = &site.app.tronagg;
    site.api(tronagg.call("PUT", "/v1/plans/default").json(settings)).await.expect(200);
}

#[tokio::test]
async fn form_of_a_key_shows_the_rules_that_its_input_breaks() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let rules = json!({
        "max_keys": 1, "scopes": [{"scope": "read"}], "max_lifetime_seconds": 864_000,
    });
    set_plan(&site, rules).await;
    let form = owner.get("/dashboard/keys/new").await.expect(200);
    form.says("0 of 1");
    let fields = [("name", "a"), ("access", "write"), ("expires", "never")];
    let refused = owner.send_form(&form, "/dashboard/keys/new", &fields).await.expect(400);
    refused.says("Your plan does not allow the scope write");
    refused.says("Your plan requires an expiry by");
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    owner.send_form(&refused, "/dashboard/keys/new", &fields).await.expect(400);
}

#[tokio::test]
async fn owner_creates_no_keys_if_the_plan_forbids_it() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let key = site.app.key(&site.app.tronagg, wallet).await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let form = owner.get("/dashboard/keys/new").await.expect(200);
    owner.get("/dashboard/keys").await.expect(200).says("Create API Key");
    set_plan(&site, json!({"owner_creates_keys": false})).await;
    owner.get("/dashboard/keys").await.expect(200).does_not_say("Create API Key");
    owner.get("/dashboard/keys/new").await.expect(403).says("Your platform creates the keys");
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    owner.send_form(&form, "/dashboard/keys/new", &fields).await.expect(403);
    let page = format!("/dashboard/keys/{}/compromised", key.id);
    owner.get(&page).await.expect(200).says("your platform creates the keys of your account");
}
