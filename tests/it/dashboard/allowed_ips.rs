//! The owner of an account restricts a key to networks.

use serde_json::{Value, json};

use super::visitor::{Page, Site, Visitor};
use crate::harness::{WALLET, app::NewKey};

const NEW: &str = "/dashboard/keys/new";
const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

async fn start() -> (Site, Visitor) {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, owner)
}

/// Submits the form of a new key, or of the key at this path, with these networks.
async fn save(owner: &mut Visitor, path: &str, fields: &[(&str, &str)]) -> Page {
    let common = [("name", "bot"), ("access", "write"), ("expires", "never")];
    owner.submit(path, path, &[&common, fields].concat()).await
}

/// Lists the networks of the account's newest key.
async fn networks(site: &Site) -> Value {
    let path = format!("/v1/accounts/{WALLET}/keys");
    site.api(site.app.tronagg.call("GET", &path)).await.expect(200).data()[0]["allowed_ips"].clone()
}

async fn key(site: &Site, networks: Value) -> NewKey {
    let body = json!({"name": "bot", "scopes": ["write"], "allowed_ips": networks});
    site.app.key_with(&site.app.tronagg, WALLET, body).await
}

#[tokio::test]
async fn form_of_a_new_key_sets_its_networks() {
    let (site, mut owner) = start().await;
    owner.get(NEW).await.expect(200).says("Add the address that I am using now: 192.0.2.7");
    for (fields, expected) in [
        (vec![], Value::Null),
        (vec![("allowed_ips", " \r\n ")], Value::Null),
        (
            vec![("allowed_ips", "203.0.113.0/24\r\n2001:db8::/48, 198.51.100.7  203.0.113.0/24")],
            json!(["203.0.113.0/24", "2001:db8::/48", "198.51.100.7/32"]),
        ),
        (vec![("add_network", "192.0.2.7")], json!(["192.0.2.7/32"])),
        (
            vec![("allowed_ips", "10.0.0.0/8"), ("add_network", "192.0.2.7")],
            json!(["10.0.0.0/8", "192.0.2.7/32"]),
        ),
    ] {
        save(&mut owner, NEW, &fields).await.expect(200);
        assert_eq!(networks(&site).await, expected, "{fields:?}");
    }
}

#[tokio::test]
async fn page_of_a_key_shows_its_networks_and_those_of_the_account() {
    let (site, mut owner) = start().await;
    let key = key(&site, json!(["203.0.113.0/24", "2001:db8::/48"])).await;
    let path = format!("/dashboard/keys/{}", key.id);
    let page = owner.get(&path).await.expect(200);
    page.says("203.0.113.0/24, 2001:db8::/48");
    page.does_not_say("Allowed networks of the account");
    let account = format!("/v1/accounts/{WALLET}");
    let list = json!({"allowed_ips": ["198.51.100.0/24"]});
    site.api(site.app.tronagg.call("PATCH", &account).json(list)).await.expect(200);
    let page = owner.get(&path).await.expect(200);
    page.says("Allowed networks of the account");
    page.says("198.51.100.0/24");
    let free = site.app.key(&site.app.tronagg, WALLET).await;
    owner.get(&format!("/dashboard/keys/{}", free.id)).await.expect(200).says("Any address");
}

#[tokio::test]
async fn owner_changes_and_clears_the_networks_of_a_key() {
    let (site, mut owner) = start().await;
    let key = key(&site, json!(["203.0.113.0/24"])).await;
    let call = || site.api(key.call("GET", AUTHORIZE));
    assert_eq!(call().await.status, 401);
    let edit = format!("/dashboard/keys/{}/edit", key.id);
    let form = owner.get(&edit).await.expect(200);
    form.says("203.0.113.0/24</textarea>");
    save(&mut owner, &edit, &[("allowed_ips", "203.0.113.0/24"), ("add_network", "192.0.2.7")])
        .await
        .expect(303);
    assert_eq!(networks(&site).await, json!(["203.0.113.0/24", "192.0.2.7/32"]));
    assert_eq!(call().await.status, 200);
    owner
        .get("/dashboard/log")
        .await
        .expect(200)
        .says("Allowed networks: 203.0.113.0/24 → 203.0.113.0/24 192.0.2.7/32");
    save(&mut owner, &edit, &[("allowed_ips", "")]).await.expect(303);
    assert_eq!(networks(&site).await, Value::Null);

    // A form that shows an old list does not replace a newer one.
    let form = owner.get(&edit).await.expect(200);
    let list = json!({"allowed_ips": ["198.51.100.0/24"]});
    site.api(site.app.tronagg.call("PATCH", &key.path).json(list)).await.expect(200);
    let fields = [("name", "bot"), ("access", "write"), ("expires", "never"), ("allowed_ips", "")];
    let refused = owner.send_form(&form, &edit, &fields).await.expect(409);
    refused.says("allowed networks: 198.51.100.0/24");
    assert_eq!(networks(&site).await, json!(["198.51.100.0/24"]));
}

#[tokio::test]
async fn invalid_network_is_shown_at_its_field_with_the_right_value() {
    let (site, mut owner) = start().await;
    let many = (0..101).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>().join("\n");
    for (text, error) in [
        (
            "203.0.113.0/24 10.0.0.1/8",
            "“10.0.0.1/8”: must be 10.0.0.0/8, because the address has bits set after the prefix. For \
             this address alone, send 10.0.0.1.",
        ),
        ("localhost", "“localhost”: must be an IP address or a network, such as 203.0.113.7"),
        ("<b>", "“<b>”: must be an IP address or a network"),
        (&many, "Enter at most 100 networks."),
    ] {
        let refused = save(&mut owner, NEW, &[("allowed_ips", text)]).await.expect(400);
        refused.says(error);
        refused.says("id=\"allowed_ips-error\"");
        refused.says("aria-describedby=\"allowed_ips-hint allowed_ips-error\"");
        if !text.starts_with('<') {
            refused.says(&format!("{text}</textarea>"));
        }
    }
    let keys = site.app.tronagg.call("GET", &format!("/v1/accounts/{WALLET}/keys"));
    assert!(site.api(keys).await.expect(200).data().is_empty(), "no key was created");
    // The own address may already be in a full list.
    let full = (0..100).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>().join(" ");
    let fields = [("allowed_ips", full.as_str()), ("add_network", "192.0.2.7")];
    save(&mut owner, NEW, &fields).await.expect(200);
}

#[tokio::test]
async fn replacement_of_a_compromised_key_has_the_same_networks() {
    let (site, mut owner) = start().await;
    let old = key(&site, json!(["203.0.113.0/24"])).await;
    let form = format!("/dashboard/keys/{}/compromised", old.id);
    owner.submit(&form, &form, &[("replace", "on")]).await.expect(200);
    assert_eq!(networks(&site).await, json!(["203.0.113.0/24"]));
}
