//! How long a session lasts, and how it is ended.

use serde_json::json;

use super::{times, visitor::Site};
use crate::harness::Call;

const SIGNED_OUT: &str = "/dashboard/signed-out";

#[tokio::test]
async fn without_a_session_there_is_a_way_in_and_nothing_else() {
    let site = Site::start().await;
    let mut visitor = site.visitor();
    for path in [
        "/dashboard/keys",
        "/dashboard/keys?show=all",
        "/dashboard/keys/new",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/edit",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/rotate",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/revoke",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/compromised",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/purchases",
        "/dashboard/keys/key_01h455vb4pex5vsknk084sn02q/purchases.csv",
        "/dashboard/balance",
        "/dashboard/balance.csv",
        "/dashboard/log",
    ] {
        visitor.get(path).await.expect_redirect(SIGNED_OUT);
    }
    visitor.get("/dashboard").await.expect_redirect("/dashboard/keys");
    let page = visitor.get(SIGNED_OUT).await.expect(200);
    page.says("sign in");
    for path in ["/dashboard/keys/new", "/dashboard/logout-everywhere"] {
        visitor.post(path, &[("name", "a")]).await.expect(401);
    }
    // A token that nobody was given is no session, whatever its shape.
    for token in ["", "x", &"A".repeat(43), &"é".repeat(43)] {
        visitor.cookies = [("tollgate_session".to_owned(), token.to_owned())].into();
        visitor.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    }
}

#[tokio::test]
async fn a_session_that_is_left_alone_ends_after_half_an_hour() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    times::leave_sessions(&site.app, "29 minutes 50 seconds").await;
    owner.get("/dashboard/keys").await.expect(200);
    // It was used: the half hour begins anew.
    times::leave_sessions(&site.app, "29 minutes 50 seconds").await;
    owner.get("/dashboard/keys").await.expect(200);
    times::leave_sessions(&site.app, "30 minutes").await;
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    // It does not come to life again.
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_however_busy() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    for _ in 0..23 {
        times::age_sessions(&site.app, "29 minutes").await;
        owner.get("/dashboard/keys").await.expect(200);
    }
    // 11 h 7 min until here.
    times::age_sessions(&site.app, "29 minutes").await;
    owner.get("/dashboard/keys").await.expect(200);
    times::age_sessions(&site.app, "29 minutes").await;
    owner.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn who_logs_out_is_out_with_every_copy_of_the_cookie() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let mut elsewhere = site.owner(&site.app.tronagg, wallet).await;
    let mut copy = owner.clone();
    let out = owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await;
    out.expect_redirect(SIGNED_OUT);
    assert!(owner.cookies.is_empty(), "{:?}", owner.cookies);
    copy.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
    elsewhere.get("/dashboard/keys").await.expect(200);
}

#[tokio::test]
async fn who_logs_out_everywhere_is_out_everywhere_and_nobody_else_is() {
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
    // The tenant's backend has logged the owner in since: a new link opens a new session.
    let fresh = site.link(&site.app.tronagg, wallet).await;
    site.owner_by(&fresh).await;
}

#[tokio::test]
async fn a_session_holds_on_every_node() {
    let site = Site::start().await;
    let wallet = site.app.wallet("0").await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let mut other = super::visitor::on_another_node(&site).await;
    other.cookies.clone_from(&owner.cookies);
    other.get("/dashboard/keys").await.expect(200);
    owner.submit("/dashboard/keys", "/dashboard/logout", &[]).await.expect(303);
    other.get("/dashboard/keys").await.expect_redirect(SIGNED_OUT);
}

#[tokio::test]
async fn a_suspended_account_is_told_so_and_still_sees_what_it_has() {
    let site = Site::start().await;
    let wallet = site.app.wallet("3").await;
    let key = site.app.key(&site.app.tronagg, wallet).await;
    let mut owner = site.owner(&site.app.tronagg, wallet).await;
    let path = format!("/v1/accounts/{wallet}");
    let suspend = site.app.tronagg.call("PATCH", &path).json(json!({"status": "suspended"}));
    site.api(suspend).await.expect(200);
    let page = owner.get("/dashboard/keys").await.expect(200);
    page.says("suspended");
    owner.get("/dashboard/balance").await.expect(200).says("3.000000");
    let new = "/dashboard/keys/new";
    let opened = owner.get(new).await;
    if opened.status == 200 {
        let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
        owner.send_form(&opened, new, &fields).await.expect(403);
    } else {
        opened.expect(403);
    }
    // What makes it safer is always allowed.
    let revoke = format!("/dashboard/keys/{}/revoke", key.id);
    owner.submit(&revoke, &revoke, &[]).await.expect(303);
    let activate = Call::new("PATCH", &path).bearer(&site.app.tronagg.admin_key);
    site.api(activate.json(json!({"status": "active"}))).await.expect(200);
    site.api(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    owner.get("/dashboard/keys").await.expect(200).does_not_say("suspended");
}
