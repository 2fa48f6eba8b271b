//! The owner of an account sees where a key was used.

use serde_json::json;

use super::{rights::owner_with, visitor::Site};
use crate::harness::{WALLET, app::NewKey};

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

async fn start() -> (Site, NewKey) {
    let site = Site::start().await;
    site.app.wallet("0").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    (site, key)
}

/// Sends a request with the key as a client at this address, and writes what the node has recorded.
async fn call(site: &Site, key: &NewKey, address: &str) {
    let call = key.call("GET", AUTHORIZE).header("User-Agent", "<script>bot</script>");
    site.app.send_from(address, call).await;
    site.app.flush_usage().await;
}

fn page_of(key: &NewKey) -> String {
    format!("/dashboard/keys/{}", key.id)
}

#[tokio::test]
async fn page_of_a_key_and_the_page_of_a_compromised_key_show_its_clients() {
    let (site, key) = start().await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let compromised = format!("{}/compromised", page_of(&key));
    for path in [&page_of(&key), &compromised] {
        owner.get(path).await.expect(200).does_not_say("Where this key was used");
    }
    call(&site, &key, "203.0.113.7").await;
    let body = json!({"allowed_ips": ["198.51.100.0/24"]});
    site.api(site.app.tronagg.call("PATCH", &key.path).json(body)).await.expect(200);
    call(&site, &key, "203.0.113.8").await;
    for path in [&page_of(&key), &compromised] {
        let page = owner.get(path).await.expect(200);
        page.says("Where this key was used");
        page.says("<code>203.0.113.7</code>");
        page.says("data-network=\"203.0.113.0/24\"");
        page.says("/v1/authorize/{tenant}/{environment}");
        page.says("The address was not in the allowed networks");
        page.says("<code>203.0.113.8</code>");
        assert!(!page.source.contains("<script>bot"), "the user agent is escaped");
    }
}

#[tokio::test]
async fn session_without_the_right_to_audit_does_not_see_clients() {
    let (site, key) = start().await;
    call(&site, &key, "198.18.5.7").await;
    let mut owner = owner_with(&site, &["dashboard", "keys"], "/dashboard/keys").await;
    for path in [page_of(&key), format!("{}/edit", page_of(&key))] {
        let page = owner.get(&path).await.expect(200);
        page.does_not_say("198.18.5.");
        page.does_not_say("Where this key was used");
    }
}

#[tokio::test]
async fn form_of_a_key_offers_the_networks_from_which_it_was_used() {
    let (site, key) = start().await;
    for address in ["203.0.113.7", "2001:db8::1"] {
        call(&site, &key, address).await;
    }
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let edit = format!("{}/edit", page_of(&key));
    let form = owner.get(&edit).await.expect(200);
    form.says("Add 203.0.113.0/24");
    form.says("Add 2001:db8::/48");
    let fields = [
        ("name", "bot"),
        ("access", "write"),
        ("expires", "never"),
        ("add_network", "203.0.113.0/24"),
        ("add_network", "2001:db8::/48"),
    ];
    owner.submit(&edit, &edit, &fields).await.expect(303);
    let changed = site.api(site.app.tronagg.call("GET", &key.path)).await.expect(200);
    assert_eq!(changed.json["allowed_ips"], json!(["203.0.113.0/24", "2001:db8::/48"]));
    owner.get(&edit).await.expect(200).does_not_say("Add 203.0.113.0/24");
    // After an error, the choice is kept.
    let fields = [("name", ""), ("add_network", "2001:db8::/48"), ("allowed_ips", "10.0.0.0/8")];
    let again = owner.submit(&edit, &edit, &fields).await.expect(400);
    again.says("value=\"2001:db8::/48\" checked");
}
