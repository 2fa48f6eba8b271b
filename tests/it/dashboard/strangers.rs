//! A session can neither read nor change another account.

use serde_json::json;
use tollgate::{
    domain::{
        account::{AccountFormat, ExternalId},
        audit::Origin,
        id::KeyId,
        session_token::SessionToken,
    },
    entropy,
    store::{FormClaim, Refusal, StoreError},
};

use super::visitor::{Page, Site, Visitor};
use crate::harness::{Call, OTHER_WALLET, TestTenant, WALLET, app::NewKey};

/// An account with data of every kind, and the texts that other accounts must not see.
struct Victim {
    key: NewKey,
    secrets: Vec<String>,
}

async fn victim(site: &Site) -> Victim {
    let app = &site.app;
    app.wallet("50").await;
    let body = json!({"name": "victim-bot", "expires_in": 86_400});
    let key = app.key_with(&app.tronagg, WALLET, body).await;
    let bought = key.call("POST", "/v1/purchases").json(json!({
        "amount": "1.234567", "reference": "victim-reference", "description": "victim-description"
    }));
    let purchase = app.send(bought).await.expect(201).text("/id").to_owned();
    let hold = key.call("POST", "/v1/holds").json(json!({"amount": "2"}));
    let hold = app.send(hold).await.expect(201).text("/id").to_owned();
    let hint = format!("{}…{}", &key.text[..7], &key.text[42..]);
    let secrets = vec![
        "victim-bot".to_owned(),
        "victim-reference".to_owned(),
        "victim-description".to_owned(),
        "1.234567".to_owned(),
        "48.765433".to_owned(),
        WALLET.to_owned(),
        hint,
        key.id.clone(),
        purchase,
        hold,
    ];
    Victim { key, secrets }
}

/// Lists every page and form of a key.
const KEY_ROUTES: &[(&str, &str)] = &[
    ("GET", ""),
    ("GET", "/edit"),
    ("POST", "/edit"),
    ("GET", "/limits"),
    ("POST", "/limits"),
    ("POST", "/disable"),
    ("POST", "/enable"),
    ("GET", "/rotate"),
    ("POST", "/rotate"),
    ("GET", "/revoke"),
    ("POST", "/revoke"),
    ("GET", "/compromised"),
    ("POST", "/compromised"),
    ("GET", "/purchases"),
    ("GET", "/purchases.csv"),
];

/// Signs in the owners of two other accounts: one account of TronAgg, and one account of another
/// tenant.
async fn other_owners(site: &Site) -> [(Visitor, NewKey); 2] {
    let app = &site.app;
    app.account(&app.tronagg, OTHER_WALLET, "3").await;
    app.account(&app.tradetally, "user-1", "3").await;
    let sign_in = async |tenant: &TestTenant, account: &str| {
        let key = app.key_with(tenant, account, json!({"name": "own", "scopes": ["write"]})).await;
        (site.owner(tenant, account).await, key)
    };
    [sign_in(&app.tronagg, OTHER_WALLET).await, sign_in(&app.tradetally, "user-1").await]
}

async fn request(visitor: &mut Visitor, method: &str, path: &str, csrf: &str) -> Page {
    if method == "GET" {
        return visitor.get(path).await;
    }
    let form = "A".repeat(43);
    let fields = [
        ("csrf", csrf),
        ("form", form.as_str()),
        ("name", "taken over"),
        ("access", "write"),
        ("expires", "never"),
        ("grace", "0"),
    ];
    visitor.post(path, &fields).await
}

/// Returns the page without its request id and without the id of the key.
fn without_ids(page: &Page, key_id: &str) -> String {
    let id = page.header("x-request-id").expect("a request id");
    page.source.replace(id, "").replace(key_id, "")
}

#[tokio::test]
async fn key_of_another_account_is_indistinguishable_from_an_unknown_key() {
    let site = Site::start().await;
    let victim = victim(&site).await;
    let path = format!("/v1/accounts/{WALLET}/keys");
    let before = site.api(site.app.tronagg.call("GET", &path)).await.expect(200).json;
    let unknown_id = "key_01h455vb4pex5vsknk084sn02q";
    for (mut visitor, own) in other_owners(&site).await {
        let edit = format!("/dashboard/keys/{}/edit", own.id);
        let csrf = visitor.get(&edit).await.expect(200).field(&edit, "csrf");
        for (method, suffix) in KEY_ROUTES {
            let path = |id: &str| format!("/dashboard/keys/{id}{suffix}");
            let theirs =
                request(&mut visitor, method, &path(&victim.key.id), &csrf).await.expect(404);
            let unknown = request(&mut visitor, method, &path(unknown_id), &csrf).await.expect(404);
            let pages = [without_ids(&theirs, &victim.key.id), without_ids(&unknown, unknown_id)];
            assert_eq!(pages[0], pages[1], "{method} {suffix}");
            // A malformed id also gets a 404.
            for wrong in ["x", "pur_01h455vb4pex5vsknk084sn02q", "%3Cb%3E", "%FF"] {
                request(&mut visitor, method, &path(wrong), &csrf).await.expect(404);
            }
        }
        visitor.get(&format!("/dashboard/keys/{}", own.id)).await.expect(200);
    }
    let after = site.api(site.app.tronagg.call("GET", &path)).await.expect(200).json;
    assert_eq!(after, before);
    site.app.check_ledger().await;
}

#[tokio::test]
async fn no_page_shows_data_of_another_account() {
    let site = Site::start().await;
    let victim = victim(&site).await;
    for tenant in [&site.app.tronagg, &site.app.tradetally] {
        site.set_dashboard(tenant, json!({"owner_rate_limits": true})).await.expect(200);
    }
    for (mut visitor, own) in other_owners(&site).await {
        let id = &victim.key.id;
        let mut paths = vec![
            "/dashboard/keys".to_owned(),
            "/dashboard/keys?show=all".to_owned(),
            "/dashboard/keys/new".to_owned(),
            "/dashboard/balance".to_owned(),
            "/dashboard/balance.csv".to_owned(),
            "/dashboard/holds".to_owned(),
            format!("/dashboard/holds?key={id}"),
            "/dashboard/log".to_owned(),
            "/dashboard/signed-out".to_owned(),
        ];
        for (_, suffix) in KEY_ROUTES.iter().filter(|(method, _)| *method == "GET") {
            paths.push(format!("/dashboard/keys/{}{suffix}", own.id));
        }
        for path in paths {
            let page = visitor.get(&path).await.expect(200);
            for secret in &victim.secrets {
                page.does_not_say(secret);
            }
        }
        // Lists can be filtered by the id of a key. A page may repeat the id from the request.
        for path in ["/dashboard/balance", "/dashboard/balance.csv"] {
            let page = visitor.get(&format!("{path}?key={id}")).await;
            assert!(matches!(page.status, 200 | 400 | 404), "{page:?}");
            for secret in victim.secrets.iter().filter(|secret| *secret != id) {
                page.does_not_say(secret);
            }
        }
    }
}

#[tokio::test]
async fn cursor_of_another_account_shows_none_of_its_data() {
    let site = Site::start().await;
    let victim = victim(&site).await;
    for number in 0..60 {
        let buy = json!({"amount": "0.01", "reference": format!("victim-{number}")});
        let bought = victim.key.call("POST", "/v1/purchases").json(buy);
        site.api(bought).await.expect(201);
    }
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    let key = format!("/dashboard/keys/{}", victim.key.id);
    let mut cursors = Vec::new();
    for path in ["/dashboard/balance", key.as_str(), &format!("{key}/purchases")] {
        let page = owner.get(path).await.expect(200);
        let cursor = page.text();
        let cursor = cursor.split("cursor=").nth(1).expect("a link to the next page");
        let end = cursor.find(['"', '&', '#']).expect("the end of the cursor");
        cursors.push(cursor[..end].to_owned());
    }
    for (mut visitor, own) in other_owners(&site).await {
        let own = format!("/dashboard/keys/{}", own.id);
        for cursor in &cursors {
            for path in ["/dashboard/balance", "/dashboard/log", own.as_str()] {
                let page = visitor.get(&format!("{path}?cursor={cursor}")).await;
                assert!(matches!(page.status, 200 | 400 | 404), "{page:?}");
                page.does_not_say("victim-");
                page.does_not_say(WALLET);
            }
        }
    }
    site.app.check_ledger().await;
}

#[tokio::test]
async fn api_keys_and_admin_keys_open_no_page_and_a_session_cannot_call_the_api() {
    let site = Site::start().await;
    let victim = victim(&site).await;
    let mut visitor = site.visitor();
    for call in [
        Call::new("GET", "/dashboard/keys").header("X-API-Key", &victim.key.text),
        Call::new("GET", "/dashboard/keys").bearer(&victim.key.text),
        Call::new("GET", "/dashboard/keys").bearer(&site.app.tronagg.admin_key),
    ] {
        visitor.send(call).await.expect_redirect("/dashboard/signed-out");
    }
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    let cookie = format!("tollgate_session={}", owner.session());
    for path in ["/v1/me", "/v1/accounts", "/v1/audit-events", "/v1/dashboard-settings"] {
        let answer = site.api(Call::new("GET", path).header("Cookie", &cookie)).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        let bearer = site.api(Call::new("GET", path).bearer(owner.session())).await;
        assert_eq!(bearer.status, 401, "{bearer:?}");
    }
}

#[tokio::test]
async fn form_of_one_account_creates_no_key_in_another_account() {
    let site = Site::start().await;
    let app = &site.app;
    app.wallet("0").await;
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    let key_id: KeyId = app.key(&app.tronagg, OTHER_WALLET).await.id.parse().expect("an id");
    let owner = site.owner(&app.tronagg, WALLET).await;
    let session = SessionToken::parse(owner.session()).expect("a token").hash().session_id();
    let form = entropy::new_session_token().expect("randomness");
    let claim = FormClaim { session, form: &form };
    let (tenant, origin) = (&app.tronagg.tenant, Origin::cli());
    let text = entropy::new_key(&tenant.policy.prefix).expect("randomness");
    let name = |wallet| ExternalId::parse(wallet, AccountFormat::Tron).expect("an address");
    let (own, other) = (name(WALLET), name(OTHER_WALLET));
    let settings = app.store.find_api_key(tenant, &other, key_id).await.expect("the key").settings;

    let handle = app.store.account(tenant, &other, &origin);
    let made = handle.create_api_key_by_form(&claim, &text, &settings).await;
    assert!(matches!(made, Err(StoreError::Refused(Refusal::SessionOver))), "{made:?}");
    let made = handle.rotate_api_key_by_form(&claim, key_id, &text, 0).await;
    assert!(matches!(made, Err(StoreError::Refused(Refusal::SessionOver))), "{made:?}");
    // The refused attempts have not used up the form.
    let handle = app.store.account(tenant, &own, &origin);
    handle.create_api_key_by_form(&claim, &text, &settings).await.expect("a key");
}
