//! The fields about rate limits in responses, and the problem of a call over a limit.

use serde_json::json;

use super::calls::{
    ACCOUNT, AUTHORIZE, HOUR, authorize, hold, lasting, left, limit, limit_fields, limit_tenant,
    limited_key, resets, retry_after, set_limits,
};
use crate::harness::{App, Call, app::NewKey};

const BOTH: [&str; 2] = ["ratelimit", "ratelimit-policy"];

#[tokio::test]
async fn fields_count_down_on_every_charged_route_and_stay_at_zero_on_refusals() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let routes: [fn(&NewKey) -> Call; 3] =
        [|key| key.call("GET", AUTHORIZE), |key| key.buy("1"), |key| hold(key, "1")];
    for (route, status) in routes.into_iter().zip([200, 201, 201]) {
        let body = json!({"name": "a key", "rate_limits": [limit("default", 3)]});
        let key = app.key_with(&app.tronagg, wallet, body).await;
        for (status, calls) in [(status, 2), (status, 1), (status, 0), (429, 0), (429, 0)] {
            let answer = app.send(route(&key)).await.expect(status);
            assert_eq!(left(&answer), [("default", calls)]);
            let (_, resets_in) = resets(&answer)[0];
            assert!((1..=HOUR).contains(&resets_in), "{answer:?}");
            assert_eq!(answer.header("ratelimit-policy"), Some("\"default\";q=3;w=3600"));
            // There is no `RateLimit-Limit` and no `X-RateLimit-Remaining`.
            assert_eq!(limit_fields(&answer), BOTH);
            let copies = BOTH.map(|name| answer.headers.get_all(name).iter().count());
            assert_eq!(copies, [1, 1], "{answer:?}");
            assert_eq!(answer.header("retry-after").is_some(), status == 429, "{answer:?}");
        }
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn fields_name_the_limits_of_the_account_and_list_the_limit_nearest_to_its_end_first() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 4)])).await;
    let without = limited_key(&app, json!(null)).await;
    set_limits(&app, ACCOUNT, json!([lasting("default", 10, 7200)])).await;
    let policy = "\"default\";q=4;w=3600, \"account:default\";q=10;w=7200";

    let first = authorize(&app, &key).await.expect(200);
    assert_eq!(first.header("ratelimit-policy"), Some(policy));
    assert_eq!(left(&first), [("default", 3), ("account:default", 9)]);
    for calls in [8, 7, 6, 5, 4, 3] {
        let answer = authorize(&app, &without).await.expect(200);
        assert_eq!(left(&answer), [("account:default", calls)]);
    }
    let second = authorize(&app, &key).await.expect(200);
    assert_eq!(second.header("ratelimit-policy"), Some(policy));
    assert_eq!(left(&second), [("account:default", 2), ("default", 2)]);
}

#[tokio::test]
async fn limit_of_the_tenant_is_named_when_it_refuses_and_never_in_the_fields() {
    let app = App::start().await;
    limit_tenant(&app, json!([limit("default", 1)])).await;
    let key = limited_key(&app, json!([limit("default", 5)])).await;
    let passed = authorize(&app, &key).await.expect(200);
    assert_eq!(left(&passed), [("default", 4)]);
    let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limit"], "tenant:default");
    assert_eq!(refused.json["limits"], json!(["tenant:default"]));
    assert_eq!(left(&refused), [("default", 4)]);
    assert_eq!(refused.header("ratelimit-policy"), Some("\"default\";q=5;w=3600"));
    assert!(retry_after(&refused).is_some_and(|seconds| seconds <= HOUR), "{refused:?}");

    set_limits(&app, &key.path, json!(null)).await;
    let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
    assert!(limit_fields(&refused).is_empty(), "{refused:?}");
    assert!(retry_after(&refused).is_some(), "{refused:?}");
}

#[tokio::test]
async fn retry_after_is_the_latest_reset_of_the_limits_that_refuse() {
    let app = App::start().await;
    let limits = json!([lasting("a", 1, 3600), lasting("b", 1, 7200), lasting("c", 5, 10_800)]);
    let key = limited_key(&app, limits).await;
    authorize(&app, &key).await.expect(200);
    let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limit"], "b");
    assert_eq!(refused.json["limits"], json!(["b", "a"]));
    let seconds = retry_after(&refused).expect("the response has Retry-After");
    assert!((3601..=7200).contains(&seconds), "{refused:?}");

    let limits = json!([lasting("a", 1, 3600), lasting("b", 5, 7200), lasting("c", 5, 10_800)]);
    set_limits(&app, &key.path, limits).await;
    let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.json["limits"], json!(["a"]));
    let seconds = retry_after(&refused).expect("the response has Retry-After");
    assert!((1..=3600).contains(&seconds), "{refused:?}");
}

#[tokio::test]
async fn problem_says_which_limit_is_used_up_and_when_to_retry() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 1)])).await;
    authorize(&app, &key).await.expect(200);
    let refused = authorize(&app, &key).await.expect_problem(429, "rate_limited");
    assert_eq!(refused.text("/title"), "Rate limit exceeded");
    let seconds = refused.header("retry-after").expect("the response has Retry-After");
    let detail =
        format!("The rate limit default is used up. Send the request again in {seconds} s.");
    assert_eq!(refused.text("/detail"), detail);
    assert_eq!(refused.json["limit"], "default");
    assert_eq!(refused.json["limits"], json!(["default"]));
    let page = refused.text("/documentation_url");
    assert!(page.ends_with("/docs/book/reference/errors/rate_limited.html"), "{page}");
}

#[tokio::test]
async fn call_that_costs_more_than_a_limit_is_refused_without_retry_after_and_not_charged() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 5), limit("large", 50)])).await;
    let call = |cost: u32| app.send(key.call("GET", &format!("{AUTHORIZE}?cost={cost}")));
    let refused = call(6).await.expect_problem(429, "rate_limited");
    assert_eq!(retry_after(&refused), None);
    assert_eq!(refused.json["limits"], json!(["default"]));
    let detail = refused.text("/detail");
    assert!(detail.contains("larger than the rate limit default"), "{detail}");
    let passed = call(5).await.expect(200);
    assert_eq!(left(&passed), [("default", 0), ("large", 45)]);
}

#[tokio::test]
async fn responses_have_no_fields_without_limits_or_before_the_limits_are_checked() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (call, status) in
        [(key.call("GET", AUTHORIZE), 200), (key.buy("1"), 201), (hold(&key, "1"), 201)]
    {
        let answer = app.send(call).await.expect(status);
        assert!(limit_fields(&answer).is_empty(), "{answer:?}");
    }
    let body = json!({"name": "r", "scopes": ["read"], "rate_limits": [limit("default", 5)]});
    let reader = app.key_with(&app.tronagg, wallet, body).await;
    for (call, status) in [
        (reader.buy("1"), 403),
        (reader.call("GET", "/v1/authorize/tronagg/test"), 404),
        (reader.call("GET", "/v1/authorize/tradetally/live"), 401),
    ] {
        let answer = app.send(call).await.expect(status);
        assert!(limit_fields(&answer).is_empty(), "{answer:?}");
    }
    app.check_ledger().await;
}
