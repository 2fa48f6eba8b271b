//! A tenant creates, lists, changes, revokes and rotates API keys.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::harness::{Answer, App, app::NewKey, eventually};

async fn passes(app: &App, key: &NewKey) -> bool {
    let answer = app.send(key.call("GET", "/v1/me")).await;
    assert!(matches!(answer.status, 200 | 401), "{answer:?}");
    answer.status == 200
}

async fn database_time(app: &App) -> OffsetDateTime {
    sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&app.pool)
        .await
        .expect("the query succeeds")
}

fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("the year has four digits")
}

async fn list(app: &App, wallet: &str, status: &str) -> Vec<String> {
    let path = format!("/v1/accounts/{wallet}/keys?status={status}");
    let answer = app.send(app.tronagg.call("GET", &path)).await.expect(200);
    answer
        .data()
        .iter()
        .map(|key| key["id"].as_str().expect("the id is a string").to_owned())
        .collect()
}

#[tokio::test]
async fn key_plaintext_is_returned_only_at_creation_and_stored_as_a_hash() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let path = format!("/v1/accounts/{wallet}/keys");
    let body = json!({"name": "  bot 1 ", "metadata": {"z": 1, "a": [1.0, "é"]}});
    let created = app.send(app.tronagg.call("POST", &path).json(body)).await.expect(201);
    assert_eq!(created.header("cache-control"), Some("no-store"));
    let text = created.text("/key").to_owned();
    assert_eq!(text.len(), 46);
    assert!(text.starts_with("ta_"));
    assert!(text[3..].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    assert_eq!(created.text("/hint"), format!("{}…{}", &text[..7], &text[42..]));
    assert_eq!(created.text("/name"), "bot 1");
    assert_eq!(created.json["scopes"], json!(["write"]));
    assert_eq!(created.json["status"], "live");
    assert_eq!(created.json["enabled"], true);
    assert_eq!(created.json["expires_at"], Value::Null);

    // Neither the key resource nor the list contains the plaintext of the key.
    let id = created.text("/id");
    let read = app.send(app.tronagg.call("GET", &format!("{path}/{id}"))).await.expect(200);
    assert_eq!(read.json["metadata"], json!({"z": 1, "a": [1.0, "é"]}));
    let mut without_text = created.json.clone();
    without_text.as_object_mut().expect("the value is an object").shift_remove("key");
    assert_eq!(read.json, without_text);
    let listed = app.send(app.tronagg.call("GET", &path)).await.expect(200);
    assert_eq!(listed.data(), [without_text]);
    let hash: Vec<u8> = sqlx::query_scalar("SELECT key_hash FROM api_keys")
        .fetch_one(&app.pool)
        .await
        .expect("the query succeeds");
    assert_eq!(hash, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(text.as_bytes())));
}

#[tokio::test]
async fn tenant_sets_the_key_prefix_and_the_default_scopes() {
    let app = App::start().await;
    app.account(&app.tradetally, "user-1", "0").await;
    let key = app.key(&app.tradetally, "user-1").await;
    assert!(key.text.starts_with("tt_live_"));
    assert_eq!(key.text.len(), 8 + 43);
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(me.json["key"]["scopes"], json!(["read"]));
    let body = json!({"name": "both", "scopes": ["write", "read", "write"]});
    let key = app.key_with(&app.tradetally, "user-1", body).await;
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    assert_eq!(me.json["key"]["scopes"], json!(["read", "write"]));
}

#[tokio::test]
async fn key_over_the_limit_is_refused_until_another_key_is_revoked() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(app.key(&app.tronagg, wallet).await);
    }
    let create = || {
        let call = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
        app.send(call.json(json!({"name": "sixth"})))
    };
    let refused = create().await.expect_problem(409, "key_limit_reached");
    assert_eq!(refused.json["max_keys"], 5);
    // A disabled key counts toward the limit.
    let disable = app.tronagg.call("PATCH", &keys[0].path).json(json!({"enabled": false}));
    app.send(disable).await.expect(200);
    create().await.expect_problem(409, "key_limit_reached");
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", keys[1].path));
    app.send(revoke).await.expect(200);
    create().await.expect(201);
    create().await.expect_problem(409, "key_limit_reached");
}

#[tokio::test]
async fn fifty_concurrent_requests_create_exactly_five_keys() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let call = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
        let request = call.json(json!({"name": format!("key {number}")})).into_request();
        tasks.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    let statuses: Vec<u16> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|answer| answer.expect("the router is infallible").status().as_u16())
        .collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 201).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 409).count(), 45, "{statuses:?}");
    assert_eq!(list(&app, wallet, "live").await.len(), 5);
}

#[tokio::test]
async fn three_concurrent_requests_with_room_for_one_key_create_one_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    for _ in 0..4 {
        app.key(&app.tronagg, wallet).await;
    }
    // All three requests have begun their transactions before any of them can count the keys.
    let lock = app.lock_accounts().await;
    let create = |name: &str| {
        let call = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
        app.send(call.json(json!({"name": name})))
    };
    let release = async {
        app.wait_until_blocked(3).await;
        lock.commit().await
    };
    let (first, second, third, released) =
        tokio::join!(create("a"), create("b"), create("c"), release);
    released.expect("the transaction commits");
    let mut statuses = [first.status, second.status, third.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
    assert_eq!(list(&app, wallet, "live").await.len(), 5);
}

#[tokio::test]
async fn revocation_is_immediate_and_permanent_and_affects_no_other_key() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let revoke = || app.tronagg.call("POST", &format!("{}/revoke", key.path));
    let revoked = app.send(revoke().json(json!({"reason": "leaked"}))).await.expect(200);
    assert_eq!(revoked.json["status"], "revoked");
    assert_eq!(revoked.json["revoked_reason"], "leaked");
    app.send(key.call("GET", "/v1/me")).await.expect_problem(401, "invalid_api_key");
    app.send(key.buy("1")).await.expect_problem(401, "invalid_api_key");
    assert!(passes(&app, &other).await);

    let repeated = app.send(revoke().json(json!({"reason": "again"}))).await.expect(200);
    assert_eq!(repeated.json, revoked.json, "a repeated revocation changes nothing");
    for body in [json!({"enabled": true}), json!({"name": "new"}), json!({"expires_at": null})] {
        let patch = app.tronagg.call("PATCH", &key.path).json(body);
        app.send(patch).await.expect_problem(409, "key_not_live");
    }
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    app.send(rotate).await.expect_problem(409, "key_not_live");
    assert!(!passes(&app, &key).await);
    assert_eq!(list(&app, wallet, "revoked").await, std::slice::from_ref(&key.id));
    assert_eq!(list(&app, wallet, "live").await, std::slice::from_ref(&other.id));
}

#[tokio::test]
async fn key_expires_by_the_database_clock() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let soon = database_time(&app).await + Duration::milliseconds(700);
    let body = json!({"name": "short", "expires_at": rfc3339(soon)});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    assert!(passes(&app, &key).await || database_time(&app).await >= soon);
    // The test uses the clock of the database, because this clock decides when the key expires.
    eventually("the key expires", async || database_time(&app).await >= soon).await;
    assert!(!passes(&app, &key).await);
    app.send(key.buy("1")).await.expect_problem(401, "invalid_api_key");
    assert_eq!(list(&app, wallet, "expired").await, std::slice::from_ref(&key.id));
    let revive = app.tronagg.call("PATCH", &key.path).json(json!({"expires_at": null}));
    app.send(revive).await.expect_problem(409, "key_not_live");
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    assert_eq!(app.send(revoke).await.expect(200).json["status"], "expired");
    app.check_ledger().await;
}

#[tokio::test]
async fn key_expiry_can_be_a_time_or_a_lifetime() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let path = format!("/v1/accounts/{wallet}/keys");
    let create = |body: Value| app.send(app.tronagg.call("POST", &path).json(body));
    let before = database_time(&app).await;
    let key = create(json!({"name": "a", "expires_in": 3600})).await.expect(201);
    let expires =
        OffsetDateTime::parse(key.text("/expires_at"), &Rfc3339).expect("the time is valid");
    let lifetime = expires - before;
    assert!(lifetime >= Duration::hours(1) && lifetime < Duration::minutes(62), "{lifetime}");
    let day = (before + Duration::days(30)).date();
    let fixed = json!({"name": "b", "expires_at": format!("{day}T12:00:00+02:00")});
    let key = create(fixed).await.expect(201);
    assert_eq!(key.text("/expires_at"), format!("{day}T10:00:00.000000Z"));

    let past = rfc3339(before - Duration::seconds(1));
    let too_far = rfc3339(before + Duration::days(3654));
    for (body, location) in [
        (json!({"name": "c", "expires_at": past}), "/expires_at"),
        (json!({"name": "c", "expires_at": too_far}), "/expires_at"),
        (json!({"name": "c", "expires_at": "tomorrow"}), "/expires_at"),
        (json!({"name": "c", "expires_at": 1_800_000_000}), "/expires_at"),
        (json!({"name": "c", "expires_in": 0}), "/expires_in"),
        (json!({"name": "c", "expires_in": -5}), "/expires_in"),
        (json!({"name": "c", "expires_in": 3654 * 86400}), "/expires_in"),
        (json!({"name": "c", "expires_in": 1.5}), "/expires_in"),
        (
            json!({"name": "c", "expires_in": 60, "expires_at": format!("{day}T12:00:00Z")}),
            "/expires_in",
        ),
    ] {
        let answer = create(body.clone()).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), [location], "{body}");
    }
    assert_eq!(list(&app, wallet, "all").await.len(), 2);
}

#[tokio::test]
async fn patch_keeps_absent_fields_and_clears_null_fields() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let body = json!({"name": "a", "expires_in": 3600, "metadata": {"k": "v"}});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    let patch = |body: Value| app.send(app.tronagg.call("PATCH", &key.path).json(body));
    let before = patch(json!({})).await.expect(200);
    assert_eq!(before.json["name"], "a");

    let renamed = patch(json!({"name": "b", "scopes": ["purchases:read"]})).await.expect(200);
    assert_eq!(renamed.json["name"], "b");
    assert_eq!(renamed.json["scopes"], json!(["purchases:read"]));
    assert_eq!(renamed.json["expires_at"], before.json["expires_at"]);
    assert_eq!(renamed.json["metadata"], json!({"k": "v"}));
    app.send(key.buy("1")).await.expect_problem(403, "insufficient_scope");

    let cleared = patch(json!({"expires_at": null, "metadata": null})).await.expect(200);
    assert_eq!(cleared.json["expires_at"], Value::Null);
    assert_eq!(cleared.json["metadata"], json!({}));

    assert!(passes(&app, &key).await);
    assert_eq!(patch(json!({"enabled": false})).await.expect(200).json["status"], "live");
    assert!(!passes(&app, &key).await);
    patch(json!({"enabled": true})).await.expect(200);
    assert!(passes(&app, &key).await);

    for (body, location) in [
        (json!({"name": null}), "/name"),
        (json!({"scopes": null}), "/scopes"),
        (json!({"enabled": null}), "/enabled"),
        (json!({"enabled": "yes"}), "/enabled"),
        (json!({"metadata": []}), "/metadata"),
        (json!({"status": "live"}), "/status"),
        (json!({"key_hash": ""}), "/key_hash"),
    ] {
        let answer = patch(body.clone()).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), [location], "{body}");
    }
}

fn rotate(app: &App, key: &NewKey, grace_seconds: i64) -> impl Future<Output = Answer> {
    let call = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    app.send(call.json(json!({"grace_seconds": grace_seconds})))
}

fn successor(key: &NewKey, answer: &Answer) -> NewKey {
    let (text, id) = (answer.text("/key").to_owned(), answer.text("/id").to_owned());
    NewKey { path: key.path.replace(&key.id, &id), text, id }
}

#[tokio::test]
async fn both_keys_are_accepted_in_rotation_grace_and_only_the_new_key_counts_toward_the_limit() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let body = json!({"name": "a", "scopes": ["read"], "metadata": {"k": 1}});
    let key = app.key_with(&app.tronagg, wallet, body).await;
    for _ in 0..4 {
        app.key(&app.tronagg, wallet).await;
    }
    // The account has reached its key limit, but the limit does not apply to a rotation.
    let rotated = rotate(&app, &key, 3600).await.expect(201);
    assert_eq!(rotated.header("cache-control"), Some("no-store"));
    let new = successor(&key, &rotated);
    assert_ne!(new.text, key.text);
    assert_eq!(rotated.json["name"], "a");
    assert_eq!(rotated.json["scopes"], json!(["read"]));
    assert_eq!(rotated.json["metadata"], json!({"k": 1}));
    assert_eq!(rotated.json["rotated_from"], json!(key.id));
    assert!(passes(&app, &key).await && passes(&app, &new).await);

    let old = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    assert_eq!(old.json["rotated_to"], json!(new.id));
    assert_eq!(old.json["status"], "live");
    assert!(old.json["expires_at"].is_string());
    rotate(&app, &key, 0).await.expect_problem(409, "key_already_rotated");
    let later = rfc3339(database_time(&app).await + Duration::days(365));
    for expires_at in [json!(null), json!(later)] {
        let patch = app.tronagg.call("PATCH", &key.path).json(json!({"expires_at": expires_at}));
        app.send(patch).await.expect_problem(409, "key_already_rotated");
    }
    // The new key counts toward the limit, but the old key does not.
    let create = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
    app.send(create.json(json!({"name": "x"}))).await.expect_problem(409, "key_limit_reached");
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    app.send(revoke).await.expect(200);
    assert!(!passes(&app, &key).await && passes(&app, &new).await);
}

#[tokio::test]
async fn rotation_without_grace_revokes_the_old_key_immediately() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let call = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let rotated = app.send(call).await.expect(201);
    let new = successor(&key, &rotated);
    assert!(!passes(&app, &key).await && passes(&app, &new).await);
    let old = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    assert_eq!(old.json["status"], "revoked");
    assert_eq!(old.json["revoked_reason"], "rotated");
    for grace in [-1, 604_801] {
        let answer = rotate(&app, &new, grace).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), ["/grace_seconds"]);
    }
}

#[tokio::test]
async fn number_of_keys_in_rotation_grace_is_limited_like_the_number_of_live_keys() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let mut newest = app.key(&app.tronagg, wallet).await;
    let mut oldest = None;
    for _ in 0..5 {
        let rotated = rotate(&app, &newest, 3600).await.expect(201);
        oldest.get_or_insert(newest.clone());
        newest = successor(&newest, &rotated);
    }
    rotate(&app, &newest, 3600).await.expect_problem(409, "key_limit_reached");
    let oldest = oldest.expect("a key was rotated");
    app.send(app.tronagg.call("POST", &format!("{}/revoke", oldest.path))).await.expect(200);
    let rotated = rotate(&app, &newest, 3600).await.expect(201);
    newest = successor(&newest, &rotated);
    // A rotation without grace adds no key to the keys in grace.
    rotate(&app, &newest, 0).await.expect(201);
    assert_eq!(list(&app, wallet, "live").await.len(), 6);
}

#[tokio::test]
async fn rotation_never_extends_the_expiry() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key_with(&app.tronagg, wallet, json!({"name": "a", "expires_in": 600})).await;
    let before = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    let rotated = rotate(&app, &key, 604_800).await.expect(201);
    assert_eq!(rotated.json["expires_at"], before.json["expires_at"]);
    let old = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    assert_eq!(old.json["expires_at"], before.json["expires_at"]);
}

#[tokio::test]
async fn ten_concurrent_rotations_create_one_successor() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let call = app.tronagg.call("POST", &format!("{}/rotate", key.path));
        let request = call.json(json!({"grace_seconds": 60})).into_request();
        tasks.spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    }
    let answers = tasks.join_all().await.into_iter();
    let created =
        answers.filter(|answer| answer.as_ref().expect("the router is infallible").status() == 201);
    assert_eq!(created.count(), 1);
    assert_eq!(list(&app, wallet, "live").await.len(), 2);
}

#[tokio::test]
async fn keys_are_listed_newest_first_in_pages() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, app.key(&app.tronagg, wallet).await.id);
    }
    assert_eq!(list(&app, wallet, "live").await, ids);
    let path = format!("/v1/accounts/{wallet}/keys?limit=2");
    let first = app.send(app.tronagg.call("GET", &path)).await.expect(200);
    let cursor = first.text("/next_cursor");
    let second = app.send(app.tronagg.call("GET", &format!("{path}&cursor={cursor}"))).await;
    assert_eq!(second.expect(200).data()[0]["id"], json!(ids[2]));
    // A cursor is valid only for its original list, filter and account.
    for path in [
        format!("/v1/accounts/{wallet}/keys?status=all&cursor={cursor}"),
        format!("/v1/accounts/{wallet}/ledger?cursor={cursor}"),
        format!("/v1/accounts/{wallet}/purchases?cursor={cursor}"),
        format!("/v1/accounts?cursor={cursor}"),
    ] {
        let answer = app.send(app.tronagg.call("GET", &path)).await;
        assert_eq!(
            answer.expect_problem(422, "validation_failed").errors_at(),
            ["cursor"],
            "{path}"
        );
    }
}
