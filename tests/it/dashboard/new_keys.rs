//! Account owners create, change and rotate keys in the dashboard.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    times,
    visitor::{Page, Site, Visitor, attribute, tags},
};
use crate::harness::{Call, WALLET};

const NEW: &str = "/dashboard/keys/new";

async fn start() -> (Site, Visitor) {
    let site = Site::start().await;
    site.app.wallet("10").await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, owner)
}

async fn create(owner: &mut Visitor, fields: &[(&str, &str)]) -> Page {
    owner.submit(NEW, NEW, fields).await
}

/// Lists all keys of the account, newest first, with the tenant's admin key.
async fn keys(site: &Site) -> Vec<Value> {
    let path = format!("/v1/accounts/{WALLET}/keys?status=all&limit=100");
    site.api(site.app.tronagg.call("GET", &path)).await.expect(200).data().to_vec()
}

async fn status(site: &Site, key: &str) -> u16 {
    site.api(Call::new("GET", "/v1/me").header("X-API-Key", key)).await.status
}

#[tokio::test]
async fn new_key_is_shown_once_and_is_accepted() {
    let (site, mut owner) = start().await;
    let fields = [("name", "  bot 1 "), ("access", "read"), ("expires", "never")];
    let shown = create(&mut owner, &fields).await.expect(200);
    let key = shown.key("ta_");
    shown.says("This is the only time you will see this key");
    shown.says(&format!("TRONAGG_API_KEY={key}"));
    assert_eq!(status(&site, &key).await, 200);
    let made = keys(&site).await.remove(0);
    assert_eq!(made["name"], "bot 1");
    assert_eq!(made["scopes"], json!(["read"]));
    assert_eq!(made["expires_at"], Value::Null);
    assert_eq!(made["spend_limit"], Value::Null);
    let id = made["id"].as_str().expect("an id");
    for path in ["/dashboard/keys", "/dashboard/log", &format!("/dashboard/keys/{id}")] {
        let page = owner.get(path).await.expect(200);
        page.does_not_say(&key);
    }
    owner.get("/dashboard/keys").await.expect(200).says("1 of 5");
}

#[tokio::test]
async fn form_sets_the_scopes_expiry_and_spend_limit_of_the_key() {
    let (site, mut owner) = start().await;
    let now = times::now(&site.app).await;
    let name = ("name", "a");
    for (fields, scopes, days) in [
        (vec![("access", "write"), ("expires", "30")], json!(["write"]), 30),
        (vec![("access", "read"), ("expires", "90")], json!(["read"]), 90),
        (vec![("access", "read"), ("expires", "180"), ("scopes", "write")], json!(["read"]), 180),
        (
            vec![
                ("access", "custom"),
                ("scopes", "orders:write, purchases:read"),
                ("expires", "365"),
            ],
            json!(["orders:write", "purchases:read"]),
            365,
        ),
    ] {
        let fields = [vec![name], fields].concat();
        create(&mut owner, &fields).await.expect(200);
        let made = keys(&site).await.remove(0);
        assert_eq!(made["scopes"], scopes);
        let expires = made["expires_at"].as_str().expect("an expiry");
        let expires = OffsetDateTime::parse(expires, &Rfc3339).expect("a time");
        let delay = expires - now - Duration::days(days);
        assert!(delay >= Duration::ZERO && delay < Duration::minutes(5), "{delay}");
    }
    // The key expires at the end of the chosen day.
    let day = now.date() + Duration::days(1);
    let last_day = day.to_string();
    let fields = [
        name,
        ("access", "read"),
        ("expires", "date"),
        ("expires_on", last_day.as_str()),
        ("limit_amount", "1.5"),
        ("limit_period", "day"),
    ];
    create(&mut owner, &fields).await.expect(200);
    let made = keys(&site).await.remove(0);
    let end = format!("{}T00:00:00.000000Z", day + Duration::days(1));
    assert_eq!(made["expires_at"], json!(end));
    assert_eq!(made["spend_limit"]["amount"], "1.500000");
    assert_eq!(made["spend_limit"]["period"], "day");
}

#[tokio::test]
async fn resubmitted_form_creates_no_second_key() {
    let (site, mut owner) = start().await;
    let form = owner.get(NEW).await.expect(200);
    let fields = [("name", "a"), ("access", "read"), ("expires", "never")];
    let key = owner.send_form(&form, NEW, &fields).await.expect(200).key("ta_");
    // A reload or the Back button can submit the form again.
    for _ in 0..2 {
        let again = owner.send_form(&form, NEW, &fields).await.expect(409);
        again.says("This form has already created a key");
        again.does_not_say(&key);
    }
    assert_eq!(keys(&site).await.len(), 1);
    // The forms that rotate and replace a key behave in the same way.
    let id = keys(&site).await[0]["id"].as_str().expect("an id").to_owned();
    let rotate = format!("/dashboard/keys/{id}/rotate");
    let form = owner.get(&rotate).await.expect(200);
    owner.send_form(&form, &rotate, &[("grace", "3600")]).await.expect(200);
    owner.send_form(&form, &rotate, &[("grace", "3600")]).await.expect(409);
    let id = keys(&site).await[0]["id"].as_str().expect("an id").to_owned();
    let compromised = format!("/dashboard/keys/{id}/compromised");
    let form = owner.get(&compromised).await.expect(200);
    owner.send_form(&form, &compromised, &[("replace", "on")]).await.expect(200);
    owner.send_form(&form, &compromised, &[("replace", "on")]).await.expect(409);
    assert_eq!(keys(&site).await.len(), 3);
    // A form that carries the token of a used form is refused.
    let form = owner.get(NEW).await.expect(200);
    let token = form.field(NEW, "form");
    owner.send_form(&form, NEW, &fields).await.expect(200);
    let fields =
        [("form", token.as_str()), ("name", "b"), ("access", "read"), ("expires", "never")];
    create(&mut owner, &fields).await.expect(409);
    assert_eq!(keys(&site).await.len(), 4);
}

#[tokio::test]
async fn ten_concurrent_submissions_of_a_form_create_one_key() {
    let (site, mut owner) = start().await;
    let form = owner.get(NEW).await.expect(200);
    let mut fields = form.hidden(NEW);
    for (name, value) in [("name", "a"), ("access", "read"), ("expires", "never")] {
        fields.push((name.to_owned(), value.to_owned()));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (mut owner, fields) = (owner.clone(), fields.clone());
        tasks.spawn(async move {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            owner.post(NEW, &fields).await.status
        });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 9][..]));
    assert_eq!(keys(&site).await.len(), 1);
}

#[tokio::test]
async fn every_invalid_field_shows_an_error_and_keeps_its_input() {
    let (site, mut owner) = start().await;
    let fields = [
        ("name", "x".repeat(101)),
        ("access", "custom".to_owned()),
        ("scopes", "Orders:everything".to_owned()),
        ("expires", "date".to_owned()),
        ("expires_on", "2020-01-01".to_owned()),
        ("limit_amount", "1,5".to_owned()),
        ("limit_period", "day".to_owned()),
    ];
    let sent: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = create(&mut owner, &sent).await.expect(400);
    assert!(page.source.contains("<title>Error: "), "{page:?}");
    for field in ["name", "scopes", "expires_on", "limit_amount"] {
        assert!(page.source.contains(&format!("id=\"{field}-error\"")), "{field}: {page:?}");
        assert!(page.source.contains(&format!("href=\"#{field}\"")), "{field}: {page:?}");
    }
    for (field, value) in &fields {
        if !matches!(*field, "access" | "expires" | "limit_period") {
            assert!(page.source.contains(&format!("value=\"{value}\"")), "{field}: {page:?}");
        }
    }
    // The refused form has not created a key, so it can still be submitted.
    let valid = [("name", "a"), ("access", "read"), ("expires", "never")];
    owner.send_form(&page, NEW, &valid).await.expect(200);
    for (name, value, wrong) in [
        ("name", "", "name"),
        ("name", "\u{7}", "name"),
        ("access", "admin", "access"),
        ("expires", "31", "expires"),
        ("expires", "keep", "expires"),
        ("limit_amount", "-1", "limit_amount"),
        ("limit_amount", "1.0000001", "limit_amount"),
    ] {
        let base =
            [("name", "a"), ("access", "read"), ("expires", "never"), ("limit_period", "day")];
        let mut fields: Vec<_> = base.iter().copied().filter(|(field, _)| *field != name).collect();
        fields.push((name, value));
        let page = create(&mut owner, &fields).await.expect(400);
        assert!(page.source.contains(&format!("id=\"{wrong}-error\"")), "{name}={value}: {page:?}");
    }
    assert_eq!(keys(&site).await.len(), 1);
}

#[tokio::test]
async fn account_at_the_key_limit_gets_no_new_key_until_a_key_is_revoked() {
    let (site, mut owner) = start().await;
    let mut last = None;
    for _ in 0..4 {
        last = Some(site.app.key(&site.app.tronagg, WALLET).await);
    }
    let form = owner.get(NEW).await.expect(200);
    site.app.key(&site.app.tronagg, WALLET).await;
    let fields = [("name", "kept"), ("access", "read"), ("expires", "never")];
    let refused = owner.send_form(&form, NEW, &fields).await.expect(409);
    refused.says("kept");
    assert_eq!(keys(&site).await.len(), 5);
    owner.get(NEW).await.expect(200).says("5 of 5");
    let id = last.expect("a fourth key").id;
    let revoke = format!("/dashboard/keys/{id}/revoke");
    let revoked = owner.submit(&revoke, &revoke, &[]).await;
    revoked.expect_redirect(&format!("/dashboard/keys?done=revoked&key={id}"));
    // The form on the page with the refusal can be submitted again.
    owner.send_form(&refused, NEW, &fields).await.expect(200);
}

#[tokio::test]
async fn revoked_key_cannot_be_edited_rotated_or_disabled() {
    let (site, mut owner) = start().await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let path_to = |action: &str| format!("/dashboard/keys/{}/{action}", key.id);
    let edit = owner.get(&path_to("edit")).await.expect(200);
    let rotate = owner.get(&path_to("rotate")).await.expect(200);
    let page = owner.get(&format!("/dashboard/keys/{}", key.id)).await.expect(200);
    owner.submit(&path_to("revoke"), &path_to("revoke"), &[("reason", "leaked")]).await.expect(303);
    assert_eq!(status(&site, &key.text).await, 401);
    let before = keys(&site).await;
    let fields = [("name", "new"), ("access", "write"), ("expires", "never")];
    owner.send_form(&edit, &path_to("edit"), &fields).await.expect(409);
    owner.send_form(&rotate, &path_to("rotate"), &[("grace", "0")]).await.expect(409);
    owner.send_form(&page, &path_to("disable"), &[]).await.expect(409);
    assert_eq!(keys(&site).await, before);
    assert_eq!(before[0]["revoked_reason"], "leaked");
}

#[tokio::test]
async fn editing_disabling_enabling_and_rotating_a_key_take_effect() {
    let (site, mut owner) = start().await;
    let body = json!({"name": "a", "scopes": ["read"], "expires_in": 864_000});
    let key = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let page = format!("/dashboard/keys/{}", key.id);
    let path_to = |action: &str| format!("{page}/{action}");
    let expiry = keys(&site).await[0]["expires_at"].clone();
    let fields = [("name", "b"), ("access", "write"), ("expires", "keep")];
    owner.submit(&path_to("edit"), &path_to("edit"), &fields).await.expect(303);
    let now = keys(&site).await.remove(0);
    assert_eq!((&now["name"], &now["scopes"]), (&json!("b"), &json!(["write"])));
    assert_eq!(now["expires_at"], expiry);

    let disabled = owner.submit(&page, &path_to("disable"), &[]).await;
    disabled.expect_redirect(&format!("{page}?done=disabled"));
    assert_eq!(status(&site, &key.text).await, 401);
    owner.get(&format!("{page}?done=disabled")).await.expect(200).says("The key is disabled.");
    let enabled = owner.submit(&page, &path_to("enable"), &[]).await;
    enabled.expect_redirect(&format!("{page}?done=enabled"));
    assert_eq!(status(&site, &key.text).await, 200);

    for wrong in ["", "1", "604801", "-1", "x"] {
        owner.submit(&path_to("rotate"), &path_to("rotate"), &[("grace", wrong)]).await.expect(400);
    }
    let rotated = owner.submit(&path_to("rotate"), &path_to("rotate"), &[("grace", "3600")]).await;
    let successor = rotated.expect(200).key("ta_");
    assert_eq!((status(&site, &key.text).await, status(&site, &successor).await), (200, 200));
    let new = keys(&site).await.remove(0);
    assert_eq!((&new["name"], &new["rotated_from"]), (&json!("b"), &json!(key.id)));
    assert_eq!(new["expires_at"], expiry);
}

#[tokio::test]
async fn notice_after_a_redirect_is_shown_only_while_it_is_true() {
    let (site, mut owner) = start().await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    let has_notice = |page: &Page| page.source.contains("id=\"notice\"");
    let forged = owner.get("/dashboard/keys?done=Your+account+was+closed").await.expect(200);
    forged.does_not_say("closed");
    for done in ["revoked", "disabled", "changed", "x"] {
        for path in [
            format!("/dashboard/keys?done={done}"),
            format!("/dashboard/keys?done={done}&key={}", key.id),
            format!("{page}?done={done}"),
            format!("{page}?done={done}&seen=x"),
        ] {
            assert!(!has_notice(&owner.get(&path).await.expect(200)), "{path}");
        }
    }
    let edit = format!("{page}/edit");
    let fields = [("name", "b"), ("access", "write"), ("expires", "never")];
    let changed = owner.submit(&edit, &edit, &fields).await.expect(303);
    let changed = changed.header("location").expect("a location").to_owned();
    owner.get(&changed).await.expect(200).says("Your changes are saved.");
    // The notice is not shown in another session, or after another change.
    let mut other = site.owner(&site.app.tronagg, WALLET).await;
    assert!(!has_notice(&other.get(&changed).await.expect(200)));
    let renamed = site.app.tronagg.call("PATCH", &key.path).json(json!({"name": "c"}));
    site.api(renamed).await.expect(200);
    assert!(!has_notice(&owner.get(&changed).await.expect(200)));

    let revoke = format!("{page}/revoke");
    let revoked = owner.submit(&revoke, &revoke, &[]).await.expect(303);
    let revoked = revoked.header("location").expect("a location").to_owned();
    owner.get(&revoked).await.expect(200).says("The key is revoked.");
    assert!(!has_notice(&owner.get(&format!("{page}?done=enabled")).await.expect(200)));
}

#[tokio::test]
async fn concurrent_change_is_shown_before_it_is_overwritten() {
    let (site, mut owner) = start().await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let edit = format!("/dashboard/keys/{}/edit", key.id);
    let form = owner.get(&edit).await.expect(200);
    let limit = json!({"amount": "2", "period": "day"});
    let change = json!({"name": "<theirs>", "scopes": ["read"], "spend_limit": limit});
    site.api(site.app.tronagg.call("PATCH", &key.path).json(change)).await.expect(200);
    let fields = [("name", "mine"), ("access", "write"), ("expires", "never")];
    let refused = owner.send_form(&form, &edit, &fields).await.expect(409);
    refused.says(
        "This key changed while you were editing it. Current settings: name “<theirs>”; access: \
         Read-only; expires: never; spend limit: 2 TRX per day (UTC); allowed networks: any \
         address. Save again to overwrite them.",
    );
    assert!(refused.source.contains("value=\"mine\""), "{refused:?}");
    assert_eq!(keys(&site).await[0]["name"], "<theirs>");
    owner.send_form(&refused, &edit, &fields).await.expect(303);
    let now = keys(&site).await.remove(0);
    assert_eq!((&now["name"], &now["spend_limit"]), (&json!("mine"), &Value::Null));
    // Disabling the key does not conflict with the form, because the form does not contain this
    // setting.
    let form = owner.get(&edit).await.expect(200);
    let disable = site.app.tronagg.call("PATCH", &key.path).json(json!({"enabled": false}));
    site.api(disable).await.expect(200);
    owner.send_form(&form, &edit, &fields).await.expect(303);
    assert_eq!(keys(&site).await[0]["enabled"], false);
}

#[tokio::test]
async fn latest_expiry_day_in_the_form_is_accepted_and_the_list_shows_the_expiry() {
    let (_site, mut owner) = start().await;
    let form = owner.get(NEW).await.expect(200);
    let inputs = tags(&form.source, "input");
    let day = inputs.iter().find(|tag| attribute(tag, "name").as_deref() == Some("expires_on"));
    let last = attribute(day.expect("a field for the day"), "max").expect("a last day");
    let fields =
        [("name", "a"), ("access", "read"), ("expires", "date"), ("expires_on", last.as_str())];
    owner.send_form(&form, NEW, &fields).await.expect(200);
    // The key expires at midnight at the end of the day.
    owner.get("/dashboard/keys").await.expect(200).says(", 00:00 UTC");
}

#[tokio::test]
async fn key_list_is_shown_without_figures_while_they_are_unavailable() {
    let (site, mut owner) = start().await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let mut tx = site.app.pool.begin().await.expect("a transaction");
    let lock = "LOCK TABLE purchases IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *tx).await.expect("the lock is acquired");
    let list = owner.get("/dashboard/keys").await.expect(200);
    list.says("Usage temporarily unavailable");
    list.says(&format!("href=\"/dashboard/keys/{}/revoke\"", key.id));
    tx.rollback().await.expect("the rollback succeeds");
    let list = owner.get("/dashboard/keys").await.expect(200);
    list.does_not_say("Usage temporarily unavailable");
    list.says("0 calls");
}

#[tokio::test]
async fn rotating_a_disabled_key_creates_a_disabled_key_and_the_page_says_so() {
    let (site, mut owner) = start().await;
    let key = site.app.key(&site.app.tronagg, WALLET).await;
    let page = format!("/dashboard/keys/{}", key.id);
    owner.submit(&page, &format!("{page}/disable"), &[]).await.expect(303);
    let notice = "The key still counts toward your key limit.";
    owner.get(&page).await.expect(200).says(notice);
    let rotate = format!("{page}/rotate");
    let rotated = owner.submit(&rotate, &rotate, &[("grace", "3600")]).await.expect(200);
    rotated.says("This key is disabled because the old key was disabled.");
    rotated.does_not_say("The old key works until");
    let successor = rotated.key("ta_");
    assert_eq!(status(&site, &successor).await, 401);
    let new = keys(&site).await.remove(0);
    let new = format!("/dashboard/keys/{}", new["id"].as_str().expect("an id"));
    rotated.says(&format!("href=\"{new}\""));
    owner.get(&page).await.expect(200).does_not_say(notice);
    owner.submit(&new, &format!("{new}/enable"), &[]).await.expect(303);
    assert_eq!(status(&site, &successor).await, 200);
}
