//! The dashboard of a suspended tenant is closed until the tenant is resumed.

use serde_json::json;
use tollgate::domain::{audit::Origin, tenant::TenantStatus};

use super::{
    visitor::{Page, Site, visitor_on_another_node},
    wallet::Wallet,
};
use crate::harness::{TestTenant, WALLET};

const LOGIN: &str = "/dashboard/tronagg/login";
const KEYS: &str = "/dashboard/keys";

async fn set_status(site: &Site, tenant: &TestTenant, status: TenantStatus) {
    let changed = site.app.store.set_tenant_status(&tenant.tenant, status, &Origin::cli()).await;
    changed.expect("the status is set");
}

fn expect_closed(page: &Page) {
    assert_eq!(page.status, 403, "{page:?}");
    page.says("Platform suspended");
}

/// Creates a site whose tenant TronAgg has an account with a key, and allows wallet sign-in.
async fn site() -> Site {
    let site = Site::start().await;
    let wallet = site.app.wallet("10").await;
    site.app.key(&site.app.tronagg, wallet).await;
    site.set_dashboard(&site.app.tronagg, json!({"wallet_sign_in": "existing"})).await.expect(200);
    site
}

#[tokio::test]
async fn pages_forms_links_and_sign_in_of_a_suspended_tenant_are_closed_until_it_is_resumed() {
    let site = site().await;
    let tronagg = &site.app.tronagg;
    let mut owner = site.owner(tronagg, WALLET).await;
    let mut elsewhere = visitor_on_another_node(&site).await;
    elsewhere.cookies.clone_from(&owner.cookies);
    let link = site.link(tronagg, WALLET).await;
    let form = owner.get("/dashboard/keys/new").await.expect(200);
    let mut newcomer = site.visitor();
    let message = newcomer.submit(LOGIN, LOGIN, &[("address", WALLET)]).await.expect(200);
    let signature = Wallet::first().sign(&message.message());

    set_status(&site, tronagg, TenantStatus::Suspended).await;
    for path in [KEYS, "/dashboard/balance", "/dashboard/keys/new", "/dashboard/log"] {
        expect_closed(&owner.get(path).await);
        expect_closed(&elsewhere.get(path).await);
    }
    expect_closed(&owner.send_form(&form, "/dashboard/keys/new", &[("name", "a new key")]).await);
    expect_closed(&site.visitor().get(&link).await);
    expect_closed(&site.visitor().get(LOGIN).await);
    let signed = [("signature", signature.as_str())];
    expect_closed(&newcomer.send_form(&message, &format!("{LOGIN}/verify"), &signed).await);

    set_status(&site, tronagg, TenantStatus::Active).await;
    owner.get(KEYS).await.expect(200).does_not_say("a new key");
    elsewhere.get(KEYS).await.expect(200);
    // Neither the link nor the message was used up.
    site.owner_by_link(&link).await;
    newcomer.send_form(&message, &format!("{LOGIN}/verify"), &signed).await.expect_redirect(KEYS);
}

#[tokio::test]
async fn browser_with_a_session_of_a_suspended_tenant_can_open_another_platform() {
    let site = site().await;
    site.app.account(&site.app.tradetally, "user-1", "0").await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    set_status(&site, &site.app.tronagg, TenantStatus::Suspended).await;
    let link = site.link(&site.app.tradetally, "user-1").await;
    owner.open_link(&link).await.expect_redirect(KEYS);
    owner.get(KEYS).await.expect(200).says("user-1");
}
