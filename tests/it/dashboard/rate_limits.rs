//! The owner of an account sees the rate limits of a key, and lowers them if the platform allows
//! it.

use serde_json::{Value, json};

use super::visitor::{Page, Site, Visitor};
use crate::harness::{Answer, Call, OTHER_WALLET, WALLET, app::NewKey};

const AUTHORIZE: &str = "/v1/authorize/tronagg/live";

const FIXED: &str = "You cannot change rate limits";

fn limit(name: &str, calls: u32, seconds: u32) -> Value {
    json!({"name": name, "limit": calls, "window_seconds": seconds})
}

/// Starts a site whose owners may lower rate limits. Signs in the owner of an account with a key
/// that has these rate limits.
async fn start(limits: Value) -> (Site, NewKey, Visitor) {
    let site = Site::start().await;
    site.set_dashboard(&site.app.tronagg, json!({"owner_rate_limits": true})).await.expect(200);
    site.app.wallet("0").await;
    let body = json!({"name": "bot", "rate_limits": limits});
    let key = site.app.key_with(&site.app.tronagg, WALLET, body).await;
    let owner = site.owner(&site.app.tronagg, WALLET).await;
    (site, key, owner)
}

fn page_of(key: &NewKey) -> String {
    format!("/dashboard/keys/{}", key.id)
}

fn form_of(key: &NewKey) -> String {
    format!("{}/limits", page_of(key))
}

/// Submits the form that lowers the limits of a key.
async fn lower(owner: &mut Visitor, key: &NewKey, fields: &[(&str, &str)]) -> Page {
    let form = form_of(key);
    owner.submit(&form, &form, fields).await
}

async fn call(site: &Site, key: &NewKey) -> Answer {
    site.api(key.call("GET", AUTHORIZE)).await
}

/// Returns the row of a limit in the table on the page of a key.
#[track_caller]
fn row(page: &Page, label: &str) -> String {
    let text = page.text();
    let (_, rest) = text.split_once(&format!("data-limit=\"{label}\"")).expect("there is a row");
    rest.split("</tr>").next().expect("there is a first part").to_owned()
}

/// Returns the number of calls of the first limit that applies to the key.
async fn effective(site: &Site, key: &NewKey) -> Value {
    let found = site.api(site.app.tronagg.call("GET", &key.path)).await.expect(200);
    found.json["effective_rate_limits"][0]["limit"].clone()
}

async fn patch(site: &Site, path: &str, body: Value) {
    site.api(site.app.tronagg.call("PATCH", path).json(body)).await.expect(200);
}

async fn newest_event(site: &Site) -> Value {
    let events = site.api(site.app.tronagg.call("GET", "/v1/audit-events?limit=1")).await;
    events.expect(200).data()[0].clone()
}

#[tokio::test]
async fn page_of_a_key_shows_the_limits_of_the_key_and_of_its_account_with_their_use() {
    let orders =
        json!({"name": "orders", "limit": 5, "window_seconds": 90, "scope": "orders:write"});
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600), orders])).await;
    let defaults = json!({"account_rate_limits": [limit("default", 1, 86_400)]});
    patch(&site, "/v1/limits", defaults).await;
    let unused = owner.get(&page_of(&key)).await.expect(200);
    unused.says("Rate limits");
    let default = row(&unused, "default");
    for text in ["1,000 calls per hour", "All calls", ">1,000<", "No window has begun"] {
        assert!(default.contains(text), "{text} is not in {default}");
    }
    assert!(!default.contains("All keys of the account"), "{default}");
    let orders = row(&unused, "orders");
    for text in ["5 calls per 90 seconds", "orders:write", ">5<"] {
        assert!(orders.contains(text), "{text} is not in {orders}");
    }

    call(&site, &key).await.expect(200);
    call(&site, &key).await.expect_problem(429, "rate_limited");
    let used = owner.get(&page_of(&key)).await.expect(200);
    let of_account = row(&used, "account:default");
    for text in ["All keys of the account", "1 call per day", ">0<", "<time"] {
        assert!(of_account.contains(text), "{text} is not in {of_account}");
    }
    let default = row(&used, "default");
    assert!(default.contains(">999<") && default.contains("<time"), "{default}");
    used.does_not_say("tenant:");
}

#[tokio::test]
async fn page_of_a_key_has_no_section_for_limits_without_a_limit_or_if_the_key_is_dead() {
    let (site, key, mut owner) = start(Value::Null).await;
    owner.get(&page_of(&key)).await.expect(200).does_not_say("Rate limits");
    let form = owner.get(&form_of(&key)).await.expect(200);
    form.says("This key has no rate limits");
    patch(&site, &key.path, json!({"rate_limits": [limit("default", 7, 60)]})).await;
    owner.get(&page_of(&key)).await.expect(200).says("7 calls per minute");
    let revoke = site.app.tronagg.call("POST", &format!("{}/revoke", key.path));
    site.api(revoke).await.expect(200);
    owner.get(&page_of(&key)).await.expect(200).does_not_say("7 calls per minute");
    owner.get(&form_of(&key)).await.expect(409).says("This key is revoked or expired");
}

#[tokio::test]
async fn page_of_a_key_is_shown_even_if_the_limits_cannot_be_read() {
    let (site, key, mut owner) = start(json!([limit("default", 7, 60)])).await;
    let mut held = site.app.pool.begin().await.expect("a transaction");
    let lock = "LOCK TABLE tenant_limits, rate_limit_windows IN ACCESS EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *held).await.expect("the lock is acquired");
    let page = owner.get(&page_of(&key)).await.expect(200);
    page.says("Is this key compromised?");
}

#[tokio::test]
async fn owner_lowers_a_limit_and_the_gate_refuses_calls_over_it() {
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600)])).await;
    owner.get(&page_of(&key)).await.expect(200).says("Lower limits");
    call(&site, &key).await.expect(200);
    let saved = lower(&mut owner, &key, &[("calls-default", " 2 ")]).await.expect(303);
    let saved = saved.header("location").expect("a location").to_owned();
    let page = owner.get(&saved).await.expect(200);
    page.says("The limits are saved.");
    assert!(row(&page, "default").contains("2 calls per hour"), "{page:?}");
    call(&site, &key).await.expect(200);
    let refused = call(&site, &key).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limit"], "default");

    let event = newest_event(&site).await;
    assert_eq!(
        (&event["action"], &event["actor"], &event["target_id"]),
        (&json!("api_key.change"), &json!("account_owner"), &json!(key.id))
    );
    let detail = json!({"owner_rate_limits": {"from": null, "to": {"default": 2}}});
    assert_eq!(event["detail"], detail);
    let log = owner.get("/dashboard/log").await.expect(200);
    log.says("Lower rate limits: none → default: 2");

    // The form shows the number. An empty field removes it.
    let form = owner.get(&form_of(&key)).await.expect(200);
    assert!(form.source.contains("name=\"calls-default\""), "{form:?}");
    assert!(form.source.contains("value=\"2\""), "{form:?}");
    lower(&mut owner, &key, &[("calls-default", "")]).await.expect(303);
    assert_eq!(effective(&site, &key).await, 1000);
    call(&site, &key).await.expect(200);
}

#[tokio::test]
async fn owner_lowers_a_default_limit_of_the_platform_for_one_key_only() {
    let (site, key, mut owner) = start(Value::Null).await;
    patch(&site, "/v1/limits", json!({"key_rate_limits": [limit("default", 50, 60)]})).await;
    let other = site.app.key(&site.app.tronagg, WALLET).await;
    lower(&mut owner, &key, &[("calls-default", "1")]).await.expect(303);
    assert_eq!(effective(&site, &key).await, 1);
    assert_eq!(effective(&site, &other).await, 50);
    call(&site, &key).await.expect(200);
    call(&site, &key).await.expect_problem(429, "rate_limited");
    for _ in 0..2 {
        call(&site, &other).await.expect(200);
    }
}

#[tokio::test]
async fn owner_cannot_raise_a_limit_above_the_platform_limit() {
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600)])).await;
    let before = newest_event(&site).await;
    for (typed, message) in [
        ("1001", "Must not exceed your platform's limit of 1,000 calls per hour."),
        ("99999999999999999999", "Must not exceed your platform's limit of 1,000 calls per hour."),
        ("0", "Must be a whole number from 1 to 1,000."),
        ("many", "Must be a whole number from 1 to 1,000."),
    ] {
        let refused = lower(&mut owner, &key, &[("calls-default", typed)]).await.expect(400);
        refused.says(message);
        refused.says("Limit default: ");
        for part in ["href=\"#calls-default\"", "aria-invalid=\"true\"", "id=\"error-default\""] {
            assert!(refused.source.contains(part), "{part} is not in {refused:?}");
        }
        assert!(refused.source.contains(&format!("value=\"{typed}\"")), "{refused:?}");
    }
    assert_eq!(newest_event(&site).await, before);

    // The platform's limit also applies if the platform lowers it later.
    lower(&mut owner, &key, &[("calls-default", "500")]).await.expect(303);
    patch(&site, &key.path, json!({"rate_limits": [limit("default", 100, 3600)]})).await;
    assert_eq!(effective(&site, &key).await, 100);
    let form = owner.get(&form_of(&key)).await.expect(200);
    assert!(!form.source.contains("value=\"500\""), "{form:?}");

    // The form has no field for a limit of the account, and ignores such a field.
    let account = format!("/v1/accounts/{WALLET}");
    patch(&site, &account, json!({"rate_limits": [limit("daily", 9, 86_400)]})).await;
    let form = owner.get(&form_of(&key)).await.expect(200);
    form.does_not_say("calls-daily");
    lower(&mut owner, &key, &[("calls-daily", "1"), ("calls-default", "3")]).await.expect(303);
    let found = site.api(site.app.tronagg.call("GET", &account)).await.expect(200);
    assert_eq!(found.json["effective_rate_limits"][0]["limit"], 9);
    assert_eq!(
        newest_event(&site).await["detail"]["owner_rate_limits"]["to"],
        json!({"default": 3})
    );
}

#[tokio::test]
async fn form_is_refused_unless_the_platform_allows_owners_to_lower_limits() {
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600)])).await;
    let form = owner.get(&form_of(&key)).await.expect(200);
    let fields = [("calls-default", "5")];
    site.set_dashboard(&site.app.tronagg, json!({"owner_rate_limits": false})).await.expect(200);
    owner.send_form(&form, &form_of(&key), &fields).await.expect(403).says(FIXED);
    owner.get(&form_of(&key)).await.expect(403).says(FIXED);
    let page = owner.get(&page_of(&key)).await.expect(200);
    page.says("1,000 calls per hour");
    page.does_not_say(&form_of(&key));
    assert_eq!(effective(&site, &key).await, 1000);

    site.set_dashboard(&site.app.tronagg, json!({"owner_rate_limits": true})).await.expect(200);
    owner.send_form(&form, &form_of(&key), &fields).await.expect(303);
    assert_eq!(effective(&site, &key).await, 5);
}

#[tokio::test]
async fn session_without_the_permission_keys_cannot_lower_limits() {
    let (site, key, _) = start(json!([limit("default", 1000, 3600)])).await;
    let admin_key = site.app.tronagg.admin_key_with(&site.app, &["dashboard", "audit"]).await;
    let link = Call::new("POST", "/v1/dashboard-links").bearer(&admin_key);
    let made = site.api(link.json(json!({"account": WALLET}))).await.expect(201);
    let link = made.text("/url").strip_prefix(site.url).expect("it is at the public URL");
    let mut reader = site.visitor();
    reader.open_link(link).await.expect_redirect("/dashboard/balance");
    let not_included = "Your link does not include this page";
    reader.get(&form_of(&key)).await.expect(403).says(not_included);
    let fields = [("calls-default", "5")];
    reader.post(&form_of(&key), &fields).await.expect(403).says(not_included);
    assert_eq!(effective(&site, &key).await, 1000);
}

#[tokio::test]
async fn owner_cannot_lower_the_limits_of_a_key_of_another_account() {
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600)])).await;
    site.app.account(&site.app.tronagg, OTHER_WALLET, "0").await;
    let mut stranger = site.owner(&site.app.tronagg, OTHER_WALLET).await;
    stranger.get(&form_of(&key)).await.expect(404);
    let keys = stranger.get("/dashboard/keys/new").await.expect(200);
    let csrf = keys.field("/dashboard/keys/new", "csrf");
    let form = owner.get(&form_of(&key)).await.expect(200);
    let seen = form.field(&form_of(&key), "seen");
    let fields = [("csrf", csrf.as_str()), ("seen", seen.as_str()), ("calls-default", "5")];
    stranger.post(&form_of(&key), &fields).await.expect(404);
    assert_eq!(effective(&site, &key).await, 1000);
}

#[tokio::test]
async fn owner_of_a_suspended_account_cannot_change_limits() {
    let (site, key, _) = start(json!([limit("default", 1000, 3600)])).await;
    patch(&site, &format!("/v1/accounts/{WALLET}"), json!({"status": "suspended"})).await;
    let mut owner = site.owner(&site.app.tronagg, WALLET).await;
    owner.get(&form_of(&key)).await.expect(403).says("Account suspended");
    owner.get(&page_of(&key)).await.expect(200).does_not_say(&form_of(&key));
}

#[tokio::test]
async fn concurrent_change_of_the_limits_is_shown_before_it_is_overwritten() {
    let (site, key, mut owner) = start(json!([limit("default", 1000, 3600)])).await;
    let form = owner.get(&form_of(&key)).await.expect(200);
    let edit = format!("{}/edit", page_of(&key));
    let edit_form = owner.get(&edit).await.expect(200);
    lower(&mut owner, &key, &[("calls-default", "20")]).await.expect(303);
    let fields = [("calls-default", "30")];
    let refused = owner.send_form(&form, &form_of(&key), &fields).await.expect(409);
    refused.says(
        "The limits of this key changed while you were editing them. Current lower limits: \
         default: 20. Save again to overwrite them.",
    );
    assert_eq!(effective(&site, &key).await, 20);
    owner.send_form(&refused, &form_of(&key), &fields).await.expect(303);
    assert_eq!(effective(&site, &key).await, 30);
    // A change of the limits does not conflict with the form for the other settings.
    let settings = [("name", "renamed"), ("access", "write"), ("expires", "never")];
    owner.send_form(&edit_form, &edit, &settings).await.expect(303);
    assert_eq!(effective(&site, &key).await, 30);
}
