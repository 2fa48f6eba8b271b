//! A session ends when it times out or when its owner signs out.

use serde_json::json;

use super::{
    times,
    visitor::{Page, Site, Visitor, attribute, tags},
    wallet::Wallet,
};
use crate::harness::{Call, WALLET};

const SIGNED_OUT: &str = "/dashboard/signed-out";
const LOGIN: &str = "/dashboard/tronagg/login";

fn links_to(page: &Page, address: &str) -> bool {
    tags(&page.source, "a").iter().any(|tag| attribute(tag, "href").as_deref() == Some(address))
}

/// Signs in the account's owner with a wallet.
async fn signed_in_by_wallet(site: &Site) -> Visitor {
    let verify = format!("{LOGIN}/verify");
    let mut owner = site.visitor();
    let page = owner.submit(LOGIN, LOGIN, &[("address", WALLET)]).await.expect(200);
    let signature = Wallet::first().sign(&page.message());
    let fields = [("signature", signature.as_str())];
    owner.send_form(&page, &verify, &fields).await.expect_redirect("/dashboard/keys");
    owner
}

#[tokio::test]
async fn request_without_a_session_is_redirected_or_refused() {
    let site = Site::start().await;
    let mut visitor = site.visitor();
    for path in [
        "/dashboard/keys",
        "/dashboard/keys?show=all",
        "/dashboard/keys/new",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/edit",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/limits",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/rotate",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/revoke",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/compromised",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/purchases",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/purchases.csv",
        "/dashboard/balance",
        "/dashboard/balance.csv",
        "/dashboard/holds",
        "/dashboard/holds/hld_01h455vb4pex5vsknk084sn02q/void",
        "/dashboard/log",
    ] {
        visitor.get(path).await.expect_redirect(SIGNED_OUT);
    }
    visitor.get("/dashboard").await.expect_redirect("/dashboard/keys");
    let page = visitor.get(SIGNED_OUT).await.expect(200);
    page.says("sign in");
    let void = "/dashboard/holds/hld_01h455vb4pex5vsknk084sn02q/void";
    for path in ["/dashboard/keys/new", "/dashboard/logout-everywhere", void] {
        let page = visitor.post(path, &[("name", "a")]).await.expect(401);
        assert!(links_to(&page, SIGNED_OUT), "{page:?}");
    }
    // A token that the service never issued opens no page, whatever its format.
    for token in ["", "x", &"A".repeat(43), &"é".repeat(43)] {
        visitor.cookies = [("tollgate_session".to_owned(), token.to_owned())].into();
        visitor.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    }
}

#[tokio::test]
async fn idle_session_ends_after_half_an_hour() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    times::make_sessions_idle(&site.app, "29 minutes 50 seconds").await;
    owner.get("/dashboard/keys").await.expect(200);
    // The last request has restarted the half hour.
    times::make_sessions_idle(&site.app, "29 minutes 50 seconds").await;
    owner.get("/dashboard/keys").await.expect(200);
    times::make_sessions_idle(&site.app, "30 minutes").await;
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    // An expired session stays expired.
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn active_session_ends_after_twelve_hours() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    for _ in 0..23 {
        times::age_sessions(&site.app, "29 minutes").await;
        owner.get("/dashboard/keys").await.expect(200);
    }
    // So far, 11 h 7 min have passed.
    times::age_sessions(&site.app, "29 minutes").await;
    owner.get("/dashboard/keys").await.expect(200);
    times::age_sessions(&site.app, "29 minutes").await;
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn session_cookie_that_was_copied_is_useless_after_signing_out() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let mut other_session = site.owner(&site.app.tronagg, wallet).await;
    let mut copy = owner.clone();
    let out = owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await;
    out.expect_redirect(SIGNED_OUT);
    assert!(owner.cookies.is_empty(), "{:?}", owner.cookies);
    copy.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    other_session.get("/dashboard/keys").await.expect(200);
}

#[tokio::test]
async fn signing_out_everywhere_ends_all_sessions_of_that_account_only() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    site.app.account(&site.app.tronagg, crate::harness::OTHER_WALLET, "0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let mut phone = site.owner(&site.app.tronagg, wallet).await;
    let other = crate::harness::OTHER_WALLET;
    let mut neighbour = site.owner(&site.app.tronagg, other).await;
    let out = owner.submit("/dashboard/log", "/dashboard/logout-everywhere", &[]).await;
    out.expect_redirect(SIGNED_OUT);
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    phone.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    neighbour.get("/dashboard/keys").await.expect(200);
    // A new link opens a new session afterwards.
    let fresh = site.link(&site.app.tronagg, wallet).await;
    site.owner_by_link(&fresh).await;
}

#[tokio::test]
async fn signed_out_page_offers_wallet_sign_in_after_a_wallet_session() {
    let site = Site::start().await;
    let change = json!({"wallet_sign_in": "create", "name": "Tron & Agg"});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    let mut owner = signed_in_by_wallet(&site).await;
    let mut idle = signed_in_by_wallet(&site).await;
    owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await.expect_redirect(SIGNED_OUT);
    let page = owner.get(SIGNED_OUT).await.expect(200);
    page.says("Sign in again");
    page.says("Tron & Agg");
    assert!(links_to(&page, LOGIN), "{page:?}");
    // The page also offers wallet sign-in after a session has expired.
    times::make_sessions_idle(&site.app, "30 minutes").await;
    idle.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    assert!(links_to(&idle.get(SIGNED_OUT).await.expect(200), LOGIN));
    // If the browser has lost this cookie, signing out sets the cookie again.
    let mut forgetful = signed_in_by_wallet(&site).await;
    forgetful.cookies.remove("tollgate_last");
    let out = forgetful.submit("/dashboard/log", "/dashboard/logout-everywhere", &[]).await;
    out.expect_redirect(SIGNED_OUT);
    assert!(links_to(&forgetful.get(SIGNED_OUT).await.expect(200), LOGIN));

    // Signing in with a link removes the cookie.
    let link = site.link(&site.app.tronagg, WALLET).await;
    idle.open_link(&link).await.expect_redirect("/dashboard/keys");
    assert!(!idle.cookies.contains_key("tollgate_last"), "{:?}", idle.cookies);

    // The page offers no sign-in after the tenant has turned wallet sign-in off.
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "off"})).await.expect(200);
    let page = owner.get(SIGNED_OUT).await.expect(200);
    assert!(!links_to(&page, LOGIN), "{page:?}");
    page.does_not_say("Sign in again");
}

#[tokio::test]
async fn signed_out_page_offers_wallet_sign_in_only_if_the_cookie_names_a_tenant_that_allows_it() {
    let site = Site::start().await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "create"})).await.expect(200);
    let mut visitor = site.visitor();
    for (value, known) in [
        ("live.tronagg", true),
        ("test.tronagg", false),
        ("live.tradetally", false),
        ("live.nobody", false),
        ("live.tronagg/../x", false),
        ("live.//evil.example", false),
        ("live.<script>alert(1)</script>", false),
        ("tronagg", false),
        ("", false),
    ] {
        visitor.cookies = [("tollgate_last".to_owned(), value.to_owned())].into();
        let page = visitor.get(SIGNED_OUT).await.expect(200);
        assert_eq!(links_to(&page, LOGIN), known, "{value}");
        assert_eq!(page.text().contains("Sign in again"), known, "{value}");
        page.does_not_say("evil.example");
        page.does_not_say("<script>alert");
    }
}

#[tokio::test]
async fn every_sign_out_offers_the_return_url_of_the_platform() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let back = "https://app.tronagg.example/settings";
    let change = json!({"return_origins": ["https://app.tronagg.example"], "name": "Tron & Agg"});
    site.set_dashboard(&site.app.tronagg, change).await.expect(200);
    for (page, action) in [
        ("/dashboard/keys", "/dashboard/logout"),
        ("/dashboard/log", "/dashboard/logout-everywhere"),
    ] {
        let body = json!({"account": wallet, "return_url": back});
        let link = site.link_with(&site.app.tronagg, body).await;
        let mut owner = site.owner_by_link(&link).await;
        let out = owner.submit(page, action, &[]).await.expect(200);
        out.says("You are signed out");
        out.says("Return to Tron & Agg");
        assert!(links_to(&out, back), "{out:?}");
        assert!(owner.cookies.is_empty(), "{:?}", owner.cookies);
        owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    }
}

#[tokio::test]
async fn non_ascii_cookie_of_another_site_does_not_invalidate_a_session() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    owner.cookies.insert("a_neighbours".to_owned(), "ü".to_owned());
    owner.get("/dashboard/keys").await.expect(200);
}

#[tokio::test]
async fn sign_in_and_sign_out_take_effect_on_every_node() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let mut other = super::visitor::visitor_on_another_node(&site).await;
    other.cookies.clone_from(&owner.cookies);
    other.get("/dashboard/keys").await.expect(200);
    owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await.expect(303);
    other.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn owner_of_a_suspended_account_can_view_and_revoke_but_not_create_keys() {
    let site = Site::start().await;
    let wallet = site.app.wallet("3").await;
    let key = site.app.key(&site.app.tronagg, wallet).await;
    let path = format!("/v1/accounts/{wallet}");
    let suspend = site.app.tronagg.call("PATCH", &path).json(json!({"status": "suspended"}));
    site.api(suspend).await.expect(200);
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let page = owner.get("/dashboard/keys").await.expect(200);
    page.says("suspended");
    owner.get("/dashboard/balance").await.expect(200).says("3 TRX");
    let new = "/dashboard/keys/new";
    let opened = owner.get(new).await;
    if opened.status == 200 {
        let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
        owner.send_form(&opened, new, &fields).await.expect(403);
    } else {
        opened.expect(403);
    }
    // Actions that make an account safer are always allowed.
    let revoke = format!("/dashboard/keys/{}/revoke", key.id);
    owner.submit(&revoke, &revoke, &[]).await.expect(303);
    let activate = Call::new("PATCH", &path).bearer(&site.app.tronagg.admin_key);
    site.api(activate.json(json!({"status": "active"}))).await.expect(200);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    owner.get("/dashboard/keys").await.expect(200).does_not_say("suspended");
}
