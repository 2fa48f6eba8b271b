//! A session gets its permissions from the admin key that created its link. It can open only the
//! pages that these permissions allow.

use serde_json::json;

use super::visitor::{Page, Site, Visitor};
use crate::harness::{Call, WALLET, app::NewKey};

const NOT_INCLUDED: &str = "Your link does not include this page";

/// The permission that a route requires in the session.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Needs {
    /// The route does not need a session.
    Nothing,
    Session,
    Keys,
    Audit,
}

/// Every route of the dashboard, with its methods and the permission that it requires.
const ROUTES: &[(&str, &[&str], Needs)] = &[
    ("/", &["GET"], Needs::Session),
    ("/enter", &["GET", "POST"], Needs::Session),
    ("/signed-out", &["GET"], Needs::Nothing),
    ("/logout", &["POST"], Needs::Session),
    ("/logout-everywhere", &["POST"], Needs::Session),
    ("/{tenant}/login", &["GET", "POST"], Needs::Nothing),
    ("/{tenant}/login/verify", &["POST"], Needs::Nothing),
    ("/{tenant}/test/login", &["GET", "POST"], Needs::Nothing),
    ("/{tenant}/test/login/verify", &["POST"], Needs::Nothing),
    ("/balance", &["GET"], Needs::Audit),
    ("/balance.csv", &["GET"], Needs::Audit),
    ("/log", &["GET"], Needs::Audit),
    ("/keys/{key_id}/purchases", &["GET"], Needs::Audit),
    ("/keys/{key_id}/purchases.csv", &["GET"], Needs::Audit),
    ("/keys", &["GET"], Needs::Keys),
    ("/keys/new", &["GET", "POST"], Needs::Keys),
    ("/keys/{key_id}", &["GET"], Needs::Keys),
    ("/keys/{key_id}/edit", &["GET", "POST"], Needs::Keys),
    ("/keys/{key_id}/limits", &["GET", "POST"], Needs::Keys),
    ("/keys/{key_id}/disable", &["POST"], Needs::Keys),
    ("/keys/{key_id}/enable", &["POST"], Needs::Keys),
    ("/keys/{key_id}/rotate", &["GET", "POST"], Needs::Keys),
    ("/keys/{key_id}/revoke", &["GET", "POST"], Needs::Keys),
    ("/holds", &["GET"], Needs::Keys),
    ("/holds/{hold_id}/void", &["GET", "POST"], Needs::Keys),
    ("/keys/{key_id}/compromised", &["GET", "POST"], Needs::Keys),
    ("/assets/{hash}/{file}", &["GET"], Needs::Nothing),
    ("/accent/{file}", &["GET"], Needs::Nothing),
    ("/logo/{tenant_id}/{hash}", &["GET"], Needs::Nothing),
    // The router names this route with its full path. It is the start page with a trailing slash.
    ("/dashboard/", &["GET"], Needs::Nothing),
];

#[test]
fn every_dashboard_route_has_an_access_rule() {
    let source = include_str!("../../../src/dashboard/routes.rs");
    let routes = source.split(".route(\"").skip(1);
    let routes = routes.map(|rest| rest.split('"').next().expect("there is a first part"));
    let mut routes: Vec<&str> = routes.collect();
    let mut covered: Vec<&str> = ROUTES.iter().map(|(template, ..)| *template).collect();
    routes.sort_unstable();
    covered.sort_unstable();
    assert_eq!(covered, routes);
}

/// Starts a site with an account that has made a purchase. Returns the site and the account's key.
async fn start() -> (Site, NewKey) {
    let site = Site::start().await;
    site.app.wallet("20").await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let buy = json!({"amount": "1.234567", "reference": "a-reference"});
    site.api(key.call("POST", "/v1/purchases").json(buy)).await.expect(201);
    (site, key)
}

/// Signs in with a link from an admin key with these permissions.
pub async fn owner_with(site: &Site, permissions: &[&str], lands_at: &str) -> Visitor {
    let admin_key = site.app.tronagg.admin_key_with(&site.app, permissions).await;
    let call = Call::new("POST", "/v1/dashboard-links").bearer(&admin_key);
    let made = site.api(call.json(json!({"account": WALLET}))).await.expect(201);
    let link = made.text("/url").strip_prefix(site.url).expect("it is at the public URL");
    let mut owner = site.visitor();
    owner.open_link(link).await.expect_redirect(lands_at);
    owner.get("/dashboard").await.expect_redirect(lands_at);
    owner
}

async fn request(owner: &mut Visitor, method: &str, template: &str, key: &NewKey) -> Page {
    let path = format!("/dashboard{template}").replace("{key_id}", &key.id);
    let path = path.replace("{hold_id}", "hld_01h455vb4pex5vsknk084sn02q");
    match method {
        "GET" => owner.get(&path).await,
        // The request has no form token, so it changes nothing.
        _ => owner.post(&path, &[]).await,
    }
}

#[tokio::test]
async fn session_can_open_only_the_routes_that_the_permissions_of_its_admin_key_allow() {
    let (site, key) = start().await;
    for (permissions, lands_at, keys, audit) in [
        (&["dashboard"][..], "/dashboard/keys", false, false),
        (&["dashboard", "keys"][..], "/dashboard/keys", true, false),
        (&["dashboard", "audit"][..], "/dashboard/balance", false, true),
        (&["dashboard", "accounts", "verify", "credits"][..], "/dashboard/keys", false, false),
        (&["dashboard", "keys", "audit"][..], "/dashboard/keys", true, true),
    ] {
        let mut owner = owner_with(&site, permissions, lands_at).await;
        for (template, methods, needs) in ROUTES {
            let may = match needs {
                Needs::Nothing => continue,
                Needs::Session => true,
                Needs::Keys => keys,
                Needs::Audit => audit,
            };
            for method in *methods {
                let page = request(&mut owner, method, template, &key).await;
                let refused = page.status == 403 && page.text().contains(NOT_INCLUDED);
                assert_eq!(refused, !may, "{permissions:?} {method} {template}: {page:?}");
            }
        }
    }
    site.app.check_ledger().await;
}

#[tokio::test]
async fn session_without_the_permission_audit_shows_no_purchase_balance_or_event() {
    let (site, key) = start().await;
    let mut owner = owner_with(&site, &["dashboard", "keys"], "/dashboard/keys").await;
    let page_of_key = format!("/dashboard/keys/{}", key.id);
    let compromised = format!("{page_of_key}/compromised");
    let list = owner.get("/dashboard/keys").await.expect(200);
    let detail = owner.get(&page_of_key).await.expect(200);
    let holds = owner.get("/dashboard/holds").await.expect(200);
    let form = owner.get(&compromised).await.expect(200);
    let done = owner.send_form(&form, &compromised, &[]).await.expect(200);
    done.says("is revoked");
    for page in [list, detail, holds, form, done] {
        for secret in ["1.234567", "18.765433", "a-reference", "Key created", "/dashboard/log\""] {
            page.does_not_say(secret);
        }
        for path in ["/dashboard/balance", "/purchases"] {
            page.does_not_say(path);
        }
    }
    site.app.check_ledger().await;
}

#[tokio::test]
async fn session_without_the_permission_keys_shows_no_link_to_a_page_of_a_key() {
    let (site, key) = start().await;
    let lands_at = "/dashboard/balance";
    let mut owner = owner_with(&site, &["dashboard", "audit"], lands_at).await;
    let purchases = format!("/dashboard/keys/{}/purchases", key.id);
    for path in [lands_at, "/dashboard/log", &purchases] {
        let page = owner.get(path).await.expect(200);
        page.does_not_say(&format!("href=\"/dashboard/keys/{}\"", key.id));
        page.does_not_say("href=\"/dashboard/keys\"");
    }
    owner.get(lands_at).await.expect(200).says(&purchases);
}

#[tokio::test]
async fn admin_key_without_the_permission_dashboard_cannot_create_a_link() {
    let (site, _) = start().await;
    let admin_key = site.app.tronagg.admin_key_with(&site.app, &["keys", "audit"]).await;
    let call = Call::new("POST", "/v1/dashboard-links").bearer(&admin_key);
    let refused = site.api(call.json(json!({"account": WALLET}))).await;
    let refused = refused.expect_problem(403, "insufficient_permission");
    assert_eq!(refused.json["required_permission"], "dashboard");
}
