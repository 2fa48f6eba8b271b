//! Tests the usage counts of keys, by hour and by outcome, and the time of the last use.

use std::time::Duration;

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tollgate::{
    domain::{
        account::{AccountFormat, AccountId, ExternalId},
        usage::{OutcomeCounts, UsageOutcome},
    },
    store::{KeyUse, UsedClients},
};

use crate::harness::{
    Answer, App, Call, WALLET, app::NewKey, cluster, data_dir::DataDir, eventually,
};

async fn usage(app: &App, key: &NewKey, query: &str) -> Answer {
    app.send(app.tronagg.call("GET", &format!("{}/usage?{query}", key.path))).await
}

/// Returns the counts of the last day by outcome, without zeros. Adds up all hours, because a new
/// hour may begin during the test.
async fn counted(app: &App, key: &NewKey) -> Value {
    app.flush_usage().await;
    sums_by_outcome(&usage(app, key, "").await.expect(200))
}

fn sums_by_outcome(answer: &Answer) -> Value {
    let mut sums = Map::new();
    for step in answer.data() {
        let mut total = 0;
        for (outcome, count) in step["outcomes"].as_object().expect("the value is an object") {
            let count = count.as_i64().expect("the member is a number");
            total += count;
            if count > 0 {
                let sum = sums.entry(outcome.clone()).or_insert(json!(0));
                *sum = json!(sum.as_i64().expect("the member is a number") + count);
            }
        }
        assert_eq!(step["total"], total);
    }
    sums.into()
}

fn totals(answer: &Answer) -> Vec<i64> {
    answer
        .data()
        .iter()
        .map(|step| step["total"].as_i64().expect("the member is a number"))
        .collect()
}

async fn database_time(app: &App) -> OffsetDateTime {
    sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&app.pool)
        .await
        .expect("the query succeeds")
}

async fn last_used_at(app: &App, key: &NewKey) -> Option<OffsetDateTime> {
    let answer = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    let text = answer.json["last_used_at"].as_str()?;
    Some(OffsetDateTime::parse(text, &Rfc3339).expect("the time is valid"))
}

async fn execute(app: &App, statement: &'static str) {
    sqlx::query(statement).execute(&app.pool).await.expect(statement);
}

#[tokio::test]
async fn every_verification_outcome_of_a_key_is_counted() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let reader = json!({"name": "a", "scopes": ["read"]});
    let reader = app.key_with(&app.tronagg, wallet, reader).await;
    let (disabled, revoked) =
        (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let disable = app.tronagg.call("PATCH", &disabled.path).json(json!({"enabled": false}));
    app.send(disable).await.expect(200);
    app.send(app.tronagg.call("POST", &format!("{}/revoke", revoked.path))).await.expect(200);
    let expired = app.key(&app.tronagg, wallet).await;
    app.expire(&expired).await;

    let me = |key: &NewKey| app.send(key.call("GET", "/v1/me"));
    for _ in 0..3 {
        me(&key).await.expect(200);
    }
    // The service accepted the key in both requests, and refused only the operation.
    app.send(key.buy("1")).await.expect(402);
    app.send(key.call("GET", "/v1/purchases/none")).await.expect(404);
    me(&reader).await.expect(200);
    app.send(reader.buy("1")).await.expect(403);
    app.send(reader.call("GET", "/v1/authorize/tronagg/live?scope=orders:write")).await.expect(403);
    me(&disabled).await.expect(401);
    me(&disabled).await.expect(401);
    me(&revoked).await.expect(401);
    me(&expired).await.expect(401);
    let account = format!("/v1/accounts/{wallet}");
    let suspend = app.tronagg.call("PATCH", &account).json(json!({"status": "suspended"}));
    app.send(suspend).await.expect(200);
    me(&key).await.expect(403);

    for (key, expected) in [
        (&key, json!({"valid": 5, "account_suspended": 1})),
        (&reader, json!({"valid": 1, "insufficient_scope": 2})),
        (&disabled, json!({"disabled": 2})),
        (&revoked, json!({"revoked": 1})),
        (&expired, json!({"expired": 1})),
    ] {
        assert_eq!(counted(&app, key).await, expected);
    }
    // Only a key that the service has accepted has a last use.
    for (key, has_passed) in [(&key, true), (&reader, true), (&disabled, false), (&expired, false)]
    {
        assert_eq!(last_used_at(&app, key).await.is_some(), has_passed);
    }
}

#[tokio::test]
async fn verifications_by_the_backend_are_counted() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key_with(&app.tronagg, wallet, json!({"name": "a", "scopes": ["write"]})).await;
    let reader = json!({"name": "b", "scopes": ["read"]});
    let reader = app.key_with(&app.tronagg, wallet, reader).await;
    let verify = async |body: Value, code: &str| {
        let call = app.tronagg.call("POST", "/v1/keys/verify").json(body);
        assert_eq!(app.send(call).await.expect(200).code(), code);
    };
    verify(json!({"key": key.text}), "VALID").await;
    let charge = json!({"amount": "1", "idempotency_key": "k"});
    verify(json!({"key": key.text, "charge": charge}), "INSUFFICIENT_BALANCE").await;
    let orders = json!({"key": reader.text, "scopes": ["orders:write"]});
    verify(orders, "INSUFFICIENT_SCOPE").await;
    app.send(app.tronagg.call("POST", &format!("{}/revoke", key.path))).await.expect(200);
    verify(json!({"key": key.text}), "REVOKED").await;
    // A verification by another tenant does not count as a use of this key.
    let other_tenant =
        app.tradetally.call("POST", "/v1/keys/verify").json(json!({"key": key.text}));
    assert_eq!(app.send(other_tenant).await.expect(200).code(), "NOT_FOUND");
    assert_eq!(counted(&app, &key).await, json!({"valid": 2, "revoked": 1}));
    assert_eq!(counted(&app, &reader).await, json!({"insufficient_scope": 1}));
}

#[tokio::test]
async fn last_use_is_written_at_most_once_a_minute() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let me = || app.send(key.call("GET", "/v1/me"));
    // A write or a lock of the row changes these columns.
    let row_version = async || -> String {
        let columns = "SELECT format('%s %s %s', xmin, xmax, ctid) FROM api_key_last_used";
        sqlx::query_scalar(columns).fetch_one(&app.pool).await.expect("the query succeeds")
    };
    assert_eq!(last_used_at(&app, &key).await, None);
    let before = database_time(&app).await;
    me().await.expect(200);
    app.flush_usage().await;
    let first = last_used_at(&app, &key).await.expect("the key has a last use");
    let after = database_time(&app).await;
    assert!(before <= first && first <= after, "{before} {first} {after}");

    let written = row_version().await;
    me().await.expect(200);
    app.flush_usage().await;
    assert_eq!(row_version().await, written);
    assert_eq!(last_used_at(&app, &key).await, Some(first));
    assert_eq!(counted(&app, &key).await, json!({"valid": 2}));

    let one_minute_earlier =
        "UPDATE api_key_last_used SET last_used_at = last_used_at - interval '1 minute'";
    execute(&app, one_minute_earlier).await;
    let shown = me().await.expect(200);
    app.flush_usage().await;
    assert!(
        last_used_at(&app, &key).await >= Some(first),
        "the service writes the last use again after a minute"
    );
    // The endpoint `/v1/me` and the list of keys also show the last use.
    let earlier = OffsetDateTime::parse(shown.text("/key/last_used_at"), &Rfc3339);
    assert!(earlier.expect("the time is valid") < first);
    let list = app.send(app.tronagg.call("GET", &format!("/v1/accounts/{wallet}/keys"))).await;
    assert!(list.expect(200).data()[0]["last_used_at"].is_string());
}

#[tokio::test]
async fn successor_of_a_used_key_has_no_last_use() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    app.flush_usage().await;
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let rotated = app.send(rotate).await.expect(201);
    assert_eq!(rotated.json["last_used_at"], Value::Null);
    let revoked = app.send(app.tronagg.call("GET", &key.path)).await.expect(200);
    assert!(revoked.json["last_used_at"].is_string());
}

#[tokio::test]
async fn usage_counts_of_two_nodes_add_up() {
    let url = cluster::fresh_database().await;
    let (first, second) = (App::on(&url).await, App::on(&url).await);
    let wallet = first.wallet("0").await;
    let key = first.key(&first.tronagg, wallet).await;
    for (app, times) in [(&first, 3), (&second, 4)] {
        for _ in 0..times {
            app.send(key.call("GET", "/v1/me")).await.expect(200);
        }
    }
    tokio::join!(first.flush_usage(), second.flush_usage());
    assert_eq!(counted(&first, &key).await, json!({"valid": 7}));
    assert_eq!(counted(&second, &key).await, json!({"valid": 7}));
}

#[tokio::test]
async fn usage_of_other_keys_is_counted_even_if_a_batch_contains_an_unknown_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let account = ExternalId::parse(wallet, AccountFormat::Any).expect("the account id is valid");
    let mut counts = OutcomeCounts::default();
    counts.add(UsageOutcome::Valid, 2);
    let uses = [key.id.as_str(), "key_01h455vb4pex5vsknk084sn02q"].map(|id| KeyUse {
        account_id: AccountId::derive(app.tronagg.tenant.id, &account),
        key_id: id.parse().expect("the id is valid"),
        counts,
        began: Duration::ZERO,
        passed: Some(Duration::ZERO),
        clients: UsedClients::default(),
    });
    app.store.record_usage(&uses).await.expect("the usage is written");
    assert_eq!(counted(&app, &key).await, json!({"valid": 2}));
}

#[tokio::test]
async fn use_counts_toward_the_hour_in_which_its_request_began() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let account = ExternalId::parse(wallet, AccountFormat::Any).expect("the account id is valid");
    let mut counts = OutcomeCounts::default();
    counts.add(UsageOutcome::Valid, 1);
    for hours in [0, 2] {
        let uses = [KeyUse {
            account_id: AccountId::derive(app.tronagg.tenant.id, &account),
            key_id: key.id.parse().expect("the id is valid"),
            counts,
            began: Duration::from_secs(hours * 3600),
            passed: None,
            clients: UsedClients::default(),
        }];
        app.store.record_usage(&uses).await.expect("the usage is written");
    }
    let totals = totals(&usage(&app, &key, "").await.expect(200));
    let used: Vec<usize> = (0..totals.len()).filter(|&step| totals[step] > 0).collect();
    let [earlier, later] = used[..] else {
        panic!("expected two hours with at least one use, got {totals:?}")
    };
    // The difference is 1 if a new hour began between the two writes.
    assert!(matches!(later - earlier, 1 | 2), "{totals:?}");
    assert_eq!(last_used_at(&app, &key).await, None);
}

#[tokio::test]
async fn usage_response_lists_every_hour_or_day_of_the_range() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    execute(
        &app,
        "INSERT INTO api_key_usage (account_id, key_id, hour, outcome, count)
         SELECT account_id, key_id, hour::timestamptz, outcome, count
         FROM api_keys, (VALUES
             ('2026-05-05T22:00:00Z', 'valid', 2),
             ('2026-05-05T23:00:00Z', 'valid', 3),
             ('2026-05-05T23:00:00Z', 'revoked', 1),
             ('2026-05-06T01:00:00Z', 'expired', 5),
             ('2026-05-06T02:00:00Z', 'valid', 7)) AS uses (hour, outcome, count)",
    )
    .await;
    // The service extends the range to whole hours, independent of the UTC offset.
    for from in ["2026-05-05T22:30:00Z", "2026-05-06T00:30:00%2B02:00"] {
        let query = format!("from={from}&to=2026-05-06T01:00:00.000001Z");
        let hours = usage(&app, &key, &query).await.expect(200);
        assert_eq!(hours.json["granularity"], "hour");
        assert_eq!(hours.text("/from"), "2026-05-05T22:00:00.000000Z");
        assert_eq!(hours.text("/to"), "2026-05-06T02:00:00.000000Z");
        assert_eq!(totals(&hours), [2, 4, 0, 5]);
        let second = json!({
            "start": "2026-05-05T23:00:00.000000Z",
            "total": 4,
            "outcomes": {
                "valid": 3, "revoked": 1, "expired": 0, "disabled": 0, "tenant_suspended": 0,
                "account_suspended": 0,
                "ip_not_allowed": 0, "insufficient_scope": 0, "rate_limited": 0,
            },
        });
        assert_eq!(hours.data()[1], second);
    }
    let query = "granularity=day&from=2026-05-05T12:00:00Z&to=2026-05-07T12:00:00Z";
    let days = usage(&app, &key, query).await.expect(200);
    assert_eq!(days.text("/from"), "2026-05-05T00:00:00.000000Z");
    assert_eq!(days.text("/to"), "2026-05-08T00:00:00.000000Z");
    assert_eq!(totals(&days), [6, 12, 0]);
    assert_eq!(sums_by_outcome(&days), json!({"valid": 12, "revoked": 1, "expired": 5}));

    for (query, steps) in [
        ("", 24),
        ("granularity=day", 30),
        ("from=2026-05-05T00:00:00Z&to=2026-06-05T00:00:00Z", 31 * 24),
        ("from=2025-05-05T00:00:00Z&to=2026-05-06T00:00:00Z&granularity=day", 366),
    ] {
        let answer = usage(&app, &key, query).await.expect(200);
        assert_eq!(answer.data().len(), steps, "{query}");
    }
}

#[tokio::test]
async fn invalid_usage_ranges_are_rejected() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (query, parameters) in [
        ("from=2026-05-05T00:00:00Z&to=2026-05-05T00:00:00Z", vec!["from"]),
        ("from=2026-05-06T00:00:00Z&to=2026-05-05T00:00:00Z", vec!["from"]),
        ("from=9998-01-01T00:00:00Z", vec!["from"]),
        ("from=2026-05-05T00:00:00Z&to=2026-06-05T00:00:01Z", vec!["from"]),
        ("from=2025-05-05T00:00:00Z&to=2026-05-06T00:00:01Z&granularity=day", vec!["from"]),
        ("to=9999-12-31T23:59:59Z", vec!["to"]),
        ("granularity=week", vec!["granularity"]),
        ("from=2026-05-05T00:00:00Z&from=2026-05-05T00:00:00Z", vec!["from"]),
        (
            "limit=5&granularity=&to=2026-05-05&from=yesterday",
            vec!["from", "to", "granularity", "limit"],
        ),
    ] {
        let answer = usage(&app, &key, query).await.expect_problem(422, "validation_failed");
        assert_eq!(answer.errors_at(), parameters, "{query}");
    }
}

#[tokio::test]
async fn usage_that_cannot_be_written_is_kept_and_written_later() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    let me = || app.send(key.call("GET", "/v1/me"));
    me().await.expect(200);
    execute(&app, "ALTER TABLE api_key_usage RENAME TO elsewhere").await;
    for _ in 0..2 {
        app.usage.flush(&app.store).await.expect_err("there is no such table");
        // Requests still succeed.
        me().await.expect(200);
    }
    assert_eq!(last_used_at(&app, &key).await, None);
    execute(&app, "ALTER TABLE elsewhere RENAME TO api_key_usage").await;
    assert_eq!(counted(&app, &key).await, json!({"valid": 3}));
    assert!(last_used_at(&app, &key).await.is_some());
}

#[tokio::test]
async fn usage_is_written_while_the_service_runs_and_when_it_stops() {
    let data_dir = DataDir::new("usage");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let keys = format!("/v1/accounts/{WALLET}/keys");
    let create = Call::new("POST", &keys).bearer(&admin_key).json(json!({"name": "a"}));
    let created = service.send(create).expect(201);
    let path = format!("{keys}/{}", created.text("/id"));
    let me = || Call::new("GET", "/v1/me").header("X-API-Key", created.text("/key"));
    service.send(me()).expect(200);
    let is_shown = async || {
        let key = service.send(Call::new("GET", &path).bearer(&admin_key)).expect(200);
        key.json["last_used_at"].is_string()
    };
    eventually("the last use is shown", is_shown).await;

    // The service has just written its counts, so it writes this use only when it stops.
    service.send(me()).expect(200);
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
    let service = data_dir.start(&["demo"]);
    let admin_key = service.exported("TRONAGG_ADMIN_KEY");
    let answer = service.send(Call::new("GET", &format!("{path}/usage")).bearer(&admin_key));
    assert_eq!(sums_by_outcome(&answer.expect(200)), json!({"valid": 2}));
    let (status, log) = service.stop();
    assert!(status.success(), "{status}: {log}");
}
