//! Checks the examples on the book's error pages. The member `documentation_url` of a problem
//! points to these pages.
//!
//! One test provokes every problem code, and compares the response with the example on the page of
//! the code. Its requests use the amounts and names of the examples, so that the responses equal
//! the examples.

use std::{collections::BTreeMap, convert::Infallible, path::Path, time::Duration};

use axum::{body::Body, http::Request};
use futures_util::stream;
use serde_json::{Value, json};
use tollgate::{
    auth::ProblemCode,
    domain::{audit::Origin, dashboard::WebOrigin, tenant::TenantStatus},
    state::{AppState, Limits},
};
use tower::ServiceExt as _;

use super::{
    files::{BOOK_SOURCES, read},
    markdown::Block,
};
use crate::harness::{
    Answer, App, Call,
    app::{NewKey, service},
    eventually,
};

/// The address of the service in the examples.
const ADDRESS: &str = "https://keys.example.com";

/// How long the service in [`problems_with_load_and_failures`] waits for a request body.
const BODY_TIMEOUT: Duration = Duration::from_millis(10);

/// Returns the only JSON block on the page of a code.
fn example(code: ProblemCode) -> Value {
    let page = read(Path::new(BOOK_SOURCES).join(format!("reference/errors/{code}.md")));
    let blocks: Vec<&Block> = page.blocks.iter().filter(|block| block.language == "json").collect();
    let [block] = blocks[..] else { panic!("{code} has {} examples", blocks.len()) };
    serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{code}: {error}"))
}

#[tokio::test]
async fn example_on_an_error_page_equals_the_response_of_the_service() {
    let answers = [
        problems_with_requests().await,
        problems_with_credentials().await,
        problems_with_keys().await,
        problems_with_plans().await,
        problems_with_money().await,
        problems_with_holds().await,
        problems_with_load_and_failures().await,
    ];
    let answers: BTreeMap<String, Answer> =
        answers.into_iter().flatten().map(|answer| (answer.code().to_owned(), answer)).collect();
    for code in ProblemCode::ALL {
        let answer = answers.get(code.as_str());
        let answer = answer.unwrap_or_else(|| panic!("no request of this test provokes {code}"));
        let example = example(*code);
        assert!(example["request_id"].is_string(), "{code}");
        let mut response = answer.json.clone();
        // Only the id of the request differs.
        response["request_id"] = example["request_id"].clone();
        // The formatted texts also show the order of the members.
        assert_eq!(format!("{example:#}"), format!("{response:#}"), "{code}");
    }
}

/// Starts the service at the address of the examples.
async fn start(limits: Limits) -> App {
    let mut app = App::start().await;
    let address = WebOrigin::parse(ADDRESS).expect("the origin is valid");
    app.router = service(AppState::new(app.node.clone(), limits, address, true));
    app
}

async fn problems_with_requests() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let buy = || key.call("POST", "/v1/purchases");
    let duplicate = buy().body("application/json", r#"{"amount": "1", "amount": "2"}"#);
    let large = json!({"amount": "1", "metadata": {"text": "a".repeat(20_000)}});
    let create_key = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
    let misspelled = create_key.json(json!({"expires_inn": 60}));
    vec![
        app.send(duplicate).await.expect_problem(400, "malformed_body"),
        app.send(key.call("POST", "/v1/purchase")).await.expect_problem(404, "not_found"),
        app.send(key.call("DELETE", "/v1/me")).await.expect_problem(405, "method_not_allowed"),
        app.send(buy().json(large)).await.expect_problem(413, "body_too_large"),
        app.send(buy().body("application/x-www-form-urlencoded", "amount=1"))
            .await
            .expect_problem(415, "unsupported_media_type"),
        app.send(misspelled).await.expect_problem(422, "validation_failed"),
    ]
}

async fn problems_with_credentials() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let wallet = app.wallet("10").await;
    let account = format!("/v1/accounts/{wallet}");
    let me = || Call::new("GET", "/v1/me");
    let accounts = || Call::new("GET", "/v1/accounts");
    let unknown = "A".repeat(43);
    let unknown_key = me().header("X-API-Key", &format!("ta_{unknown}"));
    let unknown_admin_key = accounts().bearer(&format!("tg_admin_{unknown}"));
    let scopes = json!({"name": "reader", "scopes": ["read"]});
    let reader = app.key_with(&app.tronagg, wallet, scopes).await;
    let limited = app.tronagg.admin_key_with(&app, &["accounts"]).await;
    let credit = Call::new("POST", &format!("{account}/credits")).bearer(&limited);
    let mut answers = vec![
        app.send(me()).await.expect_problem(401, "missing_api_key"),
        app.send(unknown_key).await.expect_problem(401, "invalid_api_key"),
        app.send(accounts()).await.expect_problem(401, "missing_admin_key"),
        app.send(unknown_admin_key).await.expect_problem(401, "invalid_admin_key"),
        app.send(reader.buy("1")).await.expect_problem(403, "insufficient_scope"),
        app.send(credit).await.expect_problem(403, "insufficient_permission"),
    ];
    let suspend = app.tronagg.call("PATCH", &account).json(json!({"status": "suspended"}));
    app.send(suspend).await.expect(200);
    let suspended = app.send(reader.call("GET", "/v1/me")).await;
    answers.push(suspended.expect_problem(403, "account_suspended"));
    let (tenant, suspended) = (&app.tronagg.tenant, TenantStatus::Suspended);
    let set = app.store.set_tenant_status(tenant, suspended, &Origin::cli()).await;
    set.expect("the tenant is suspended");
    let suspended = app.send(reader.call("GET", "/v1/me")).await;
    answers.push(suspended.expect_problem(403, "tenant_suspended"));
    answers
}

async fn problems_with_keys() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let wallet = app.wallet("0").await;
    let mut keys = Vec::new();
    for _ in 0..5 {
        keys.push(app.key(&app.tronagg, wallet).await);
    }
    let create = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/keys"));
    let sixth = app.send(create.json(json!({"name": "sixth"}))).await;
    let rotate = || {
        let call = app.tronagg.call("POST", &format!("{}/rotate", keys[0].path));
        app.send(call.json(json!({"grace_seconds": 3600})))
    };
    rotate().await.expect(201);
    let rotated_again = rotate().await;
    app.send(app.tronagg.call("POST", &format!("{}/revoke", keys[1].path))).await.expect(200);
    let rename = app.tronagg.call("PATCH", &keys[1].path).json(json!({"name": "new"}));
    vec![
        sixth.expect_problem(409, "key_limit_reached"),
        rotated_again.expect_problem(409, "key_already_rotated"),
        app.send(rename).await.expect_problem(409, "key_not_live"),
    ]
}

async fn problems_with_plans() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let put = |name: String| app.send(app.tronagg.call("PUT", &format!("/v1/plans/{name}")));
    for number in 1..100 {
        put(format!("plan-{number}")).await.expect(201);
    }
    let default = app.send(app.tronagg.call("DELETE", "/v1/plans/default")).await;
    vec![
        default.expect_problem(409, "plan_in_use"),
        put("one-too-many".to_owned()).await.expect_problem(409, "plan_limit_reached"),
    ]
}

async fn problems_with_money() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let wallet = app.wallet("98.5").await;
    let key = app.key(&app.tronagg, wallet).await;
    let limit = json!({"name": "a", "spend_limit": {"amount": "50", "period": "day"}});
    let limited = app.key_with(&app.tronagg, wallet, limit).await;
    let too_much = app.send(key.buy("99")).await;
    app.send(limited.buy("49")).await.expect(201);
    let over_the_limit = app.send(limited.buy("5")).await;
    let bought = app.send(key.buy("2").idempotency_key("order-1")).await.expect(201);
    let other_amount = app.send(key.buy("3").idempotency_key("order-1")).await;
    let refunds = format!("/v1/accounts/{wallet}/purchases/{}/refunds", bought.text("/id"));
    let refund = |idempotency_key: &str, amount: &str| {
        let call = app.tronagg.call("POST", &refunds).idempotency_key(idempotency_key);
        app.send(call.json(json!({"amount": amount})))
    };
    refund("refund-1", "0.5").await.expect(201);
    let too_large = refund("refund-2", "2").await;
    app.check_ledger().await;
    vec![
        too_much.expect_problem(402, "insufficient_balance"),
        over_the_limit.expect_problem(402, "spend_limit_exceeded"),
        too_large.expect_problem(409, "refund_too_large"),
        other_amount.expect_problem(422, "idempotency_mismatch"),
    ]
}

async fn problems_with_holds() -> Vec<Answer> {
    let app = start(Limits::default()).await;
    let wallet = app.wallet("100").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let place = |key: &NewKey, body: Value| app.send(key.call("POST", "/v1/holds").json(body));
    let capture =
        |path: &str, body: Value| app.send(key.call("POST", &format!("{path}/capture")).json(body));
    let placed = place(&key, json!({"amount": "10"})).await.expect(201);
    let path = format!("/v1/holds/{}", placed.text("/id"));
    let too_small = capture(&path, json!({"amount": "10.5"})).await;
    let short = place(&key, json!({"amount": "1", "expires_in": 1})).await.expect(201);
    let path = format!("/v1/holds/{}", short.text("/id"));
    eventually("the hold expires", async || {
        let found = app.send(key.call("GET", &path)).await.expect(200);
        found.text("/status") == "expired"
    })
    .await;
    let not_open = capture(&path, json!({})).await;
    for _ in 0..200 {
        place(&other, json!({"amount": "0.01"})).await.expect(201);
    }
    let over_the_limit = place(&other, json!({"amount": "0.01"})).await;
    app.check_ledger().await;
    vec![
        over_the_limit.expect_problem(409, "hold_limit_reached"),
        not_open.expect_problem(409, "hold_not_open"),
        too_small.expect_problem(409, "hold_too_small"),
    ]
}

async fn problems_with_load_and_failures() -> Vec<Answer> {
    let app = start(Limits { body_timeout: BODY_TIMEOUT, ..Limits::default() }).await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut answers = vec![
        body_without_end(&app, &key).await,
        one_call_too_many(&app, wallet).await,
        one_request_too_many(&app, &key).await,
    ];
    let rename = "ALTER TABLE audit_events RENAME TO other_events";
    sqlx::query(rename).execute(&app.pool).await.expect("the table is renamed");
    let events = app.send(app.tronagg.call("GET", "/v1/audit-events")).await;
    answers.push(events.expect_problem(500, "internal_error"));
    app.store.close().await;
    let accounts = app.send(app.tronagg.call("GET", "/v1/accounts")).await;
    answers.push(accounts.expect_problem(503, "unavailable"));
    answers
}

/// Sends a purchase whose body never ends. Replaces [`BODY_TIMEOUT`] in the response with the
/// default, so that the test does not have to wait for ten seconds.
async fn body_without_end(app: &App, key: &NewKey) -> Answer {
    let body = Body::from_stream(stream::pending::<Result<&'static str, Infallible>>());
    let (parts, _) = key.buy("1").into_parts();
    let answer = app.send_request(Request::from_parts(parts, body)).await;
    let mut answer = answer.expect_problem(408, "request_timeout");
    let [own, default] = [BODY_TIMEOUT, Limits::default().body_timeout]
        .map(|timeout| format!("within {timeout:?}."));
    let detail = answer.text("/detail");
    assert!(detail.contains(&own), "{detail}");
    let detail = detail.replace(&own, &default);
    answer.json["detail"] = detail.into();
    answer
}

/// Makes a purchase more than a rate limit allows. Replaces the seconds until the window ends with
/// the length of the window, because some time passes between the purchases.
async fn one_call_too_many(app: &App, wallet: &str) -> Answer {
    let limits = json!([{"name": "default", "limit": 1, "window_seconds": 60}]);
    let settings = json!({"name": "a", "rate_limits": limits});
    let key = app.key_with(&app.tronagg, wallet, settings).await;
    app.send(key.buy("1")).await.expect(201);
    let mut answer = app.send(key.buy("1")).await.expect_problem(429, "rate_limited");
    let seconds = answer.header("retry-after").expect("waiting helps");
    let own = format!("in {seconds} s.");
    let detail = answer.text("/detail");
    assert!(detail.contains(&own), "{detail}");
    let detail = detail.replace(&own, "in 60 s.");
    answer.json["detail"] = detail.into();
    answer
}

/// Sends one request more than a key may have in flight. A request is in flight until its response
/// is dropped.
async fn one_request_too_many(app: &App, key: &NewKey) -> Answer {
    let me = || key.call("GET", "/v1/me");
    let mut in_flight = Vec::new();
    for _ in 0..Limits::default().in_flight {
        let response = app.router.clone().oneshot(me().into_request()).await;
        in_flight.push(response.expect("the router is infallible"));
    }
    let refused = app.send(me()).await;
    drop(in_flight);
    refused.expect_problem(429, "too_many_in_flight")
}
