//! Credits and purchases are exact, take effect once, and never make a balance negative.

use serde_json::{Value, json};
use tollgate::domain::text::{Description, MAX_METADATA_BYTES, Reference};

use crate::harness::{App, Call, OTHER_WALLET, WALLET, app::NewKey, eventually};

/// Sends all requests concurrently, alternating between two nodes. Returns the statuses and bodies
/// in the order of the requests.
async fn send_concurrently(app: &App, calls: Vec<Call>) -> Vec<(u16, String)> {
    let nodes = [app.router.clone(), app.another_node().await];
    let tasks: Vec<_> = calls
        .into_iter()
        .zip(nodes.iter().cycle())
        .map(|(call, node)| {
            tokio::spawn(tower::ServiceExt::oneshot(node.clone(), call.into_request()))
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        let response =
            task.await.expect("the task does not panic").expect("the router is infallible");
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX)
            .await
            .expect("the body can be read");
        answers.push((status, String::from_utf8(body.to_vec()).expect("the text is UTF-8")));
    }
    answers
}

fn count(answers: &[(u16, String)], status: u16) -> usize {
    answers.iter().filter(|(found, _)| *found == status).count()
}

async fn ledger_length(app: &App) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM ledger_entries")
        .fetch_one(&app.pool)
        .await
        .expect("the query returns a number")
}

#[tokio::test]
async fn purchase_deducts_its_exact_amount() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let body = json!({
        "amount": "1.000001", "reference": "order 1", "description": "65000 energy",
        "metadata": {"energy": 65000},
    });
    let bought = app.send(key.call("POST", "/v1/purchases").json(body)).await.expect(201);
    assert_eq!(bought.text("/amount"), "1.000001");
    assert_eq!(bought.text("/balance_after"), "8.999999");
    assert_eq!(bought.text("/currency"), "TRX");
    assert_eq!(bought.text("/key_id"), key.id);
    assert_eq!(bought.json["metadata"], json!({"energy": 65000}));
    let path = format!("/v1/purchases/{}", bought.text("/id"));
    assert_eq!(app.send(key.call("GET", &path)).await.expect(200).json, bought.json);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "8.999999");
    // Every key of the account can spend the whole balance.
    let other = app.key(&app.tronagg, wallet).await;
    let rest = app.send(other.buy("8.999999")).await.expect(201);
    assert_eq!(rest.text("/balance_after"), "0.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn purchase_over_the_balance_is_declined_and_deducts_nothing() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let declined = app.send(key.buy("10.000001")).await.expect_problem(402, "insufficient_balance");
    assert_eq!(declined.text("/required"), "10.000001");
    assert_eq!(declined.text("/available"), "10.000000");
    assert_eq!(declined.text("/currency"), "TRX");
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");
    assert_eq!(ledger_length(&app).await, 1);
    app.send(key.buy("10")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn one_thousand_concurrent_purchases_spend_exactly_the_balance() {
    let app = App::start().await;
    let wallet = app.wallet("500").await;
    let keys = [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
    let calls = (0..1000).map(|number: usize| keys[number / 2 % 2].buy("1")).collect();
    let answers = send_concurrently(&app, calls).await;
    assert_eq!((count(&answers, 201), count(&answers, 402)), (500, 500));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "0.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn one_of_64_concurrent_purchases_spends_the_last_unit() {
    let app = App::start().await;
    let wallet = app.wallet("0.000001").await;
    let keys = [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
    let calls = (0..64).map(|number: usize| keys[number / 2 % 2].buy("0.000001")).collect();
    let answers = send_concurrently(&app, calls).await;
    assert_eq!((count(&answers, 201), count(&answers, 402)), (1, 63));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "0.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn concurrent_requests_with_one_idempotency_key_make_one_purchase() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let keys = [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
    let calls = (0..20)
        .map(|number: usize| {
            let quoted = if number.is_multiple_of(3) { "\"order-1\"" } else { "order-1" };
            keys[number / 2 % 2].buy("7").idempotency_key(quoted)
        })
        .collect();
    // The first request on each node has begun its transaction before either node can decide.
    let lock = app.lock_accounts().await;
    let release = async {
        app.wait_until_blocked(2).await;
        lock.commit().await
    };
    let (answers, released) = tokio::join!(send_concurrently(&app, calls), release);
    released.expect("the transaction commits");
    assert_eq!(count(&answers, 201), 20, "{answers:?}");
    for (_, body) in &answers {
        assert_eq!(body, &answers[0].1, "all responses are equal byte for byte");
    }
    assert_eq!(app.balance(&app.tronagg, wallet).await, "93.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn replayed_purchase_returns_its_first_response_through_any_key() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let body = json!({"amount": "4", "metadata": {"b": 1, "a": [-0.0, 1.5e-7, 1.10]}});
    let buy = |key: &NewKey, body: &Value| {
        key.call("POST", "/v1/purchases").idempotency_key("k").json(body.clone())
    };
    let first = app.send(buy(&key, &body)).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    // A request with an equivalent JSON body is a replay.
    let equivalent = json!({"metadata": {"a": [-0.0, 1.5e-7, 1.1], "b": 1}, "amount": "4.0"});
    for (key, body) in [(&key, &body), (&other, &body), (&key, &equivalent)] {
        let replayed = app.send(buy(key, body)).await.expect(201);
        assert_eq!(replayed.body, first.body);
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    }
    for other_body in [
        json!({"amount": "4.000001", "metadata": {"b": 1, "a": [-0.0, 1.5e-7, 1.1]}}),
        json!({"amount": "4"}),
        json!({"amount": "4", "reference": "x", "metadata": {"b": 1, "a": [-0.0, 1.5e-7, 1.1]}}),
    ] {
        let answer = app.send(buy(&key, &other_body)).await;
        answer.expect_problem(422, "idempotency_mismatch");
    }
    // Different accounts can use the same idempotency key.
    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let key_of_other = app.key(&app.tronagg, OTHER_WALLET).await;
    let bought = app.send(buy(&key_of_other, &body)).await.expect(201);
    assert_eq!(bought.header("idempotent-replayed"), None);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "6.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn declined_purchase_stays_declined_for_its_idempotency_key() {
    let app = App::start().await;
    let wallet = app.wallet("1").await;
    let key = app.key(&app.tronagg, wallet).await;
    let first = app.send(key.buy("5").idempotency_key("k")).await;
    let first = first.expect_problem(402, "insufficient_balance");
    let credit = app
        .tronagg
        .call("POST", &format!("/v1/accounts/{wallet}/credits"))
        .idempotency_key("more")
        .json(json!({"amount": "100"}));
    app.send(credit).await.expect(201);
    let replayed = app.send(key.buy("5").idempotency_key("k")).await;
    assert_eq!(replayed.status, 402);
    assert_eq!(
        replayed.body, first.body,
        "the replay equals the first response byte for byte, including its request id"
    );
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    app.send(key.buy("5").idempotency_key("k2")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn refused_and_invalid_requests_do_not_use_up_the_idempotency_key() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let set_status = |status: &str| {
        let path = format!("/v1/accounts/{wallet}");
        app.send(app.tronagg.call("PATCH", &path).json(json!({"status": status})))
    };
    set_status("suspended").await.expect(200);
    app.send(key.buy("1").idempotency_key("k")).await.expect_problem(403, "account_suspended");
    set_status("active").await.expect(200);
    app.send(key.buy("-1").idempotency_key("k")).await.expect_problem(422, "validation_failed");
    let bought = app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    assert_eq!(bought.header("idempotent-replayed"), None);
    app.check_ledger().await;
}

/// A route that makes a purchase.
#[derive(Clone, Copy)]
enum Route {
    Purchase,
    Charge,
}

/// Commits `change` while a purchase that the gate has accepted waits for the account lock. Returns
/// the status and code of the response to the purchase.
async fn purchase_during_change(change: &'static str, route: Route) -> (u16, String) {
    let app = App::start().await;
    let wallet = app.wallet("1000").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut tx = app.lock_accounts().await;
    let charge = json!({"amount": "1", "idempotency_key": "c"});
    let verify = json!({"key": key.text, "charge": charge});
    let waiting = app.send(match route {
        Route::Purchase => key.buy("1"),
        Route::Charge => app.tronagg.call("POST", "/v1/keys/verify").json(verify),
    });
    let commit = async {
        app.wait_until_blocked(1).await;
        sqlx::query(change).execute(&mut *tx).await.expect("the change is applied");
        tx.commit().await.expect("the transaction commits");
    };
    let (answer, ()) = tokio::join!(waiting, commit);
    let resume = "UPDATE tenants SET status = 'active'";
    sqlx::query(resume).execute(&app.pool).await.expect("the change is applied");
    assert_eq!(app.balance(&app.tronagg, wallet).await, "1000.000000");
    app.check_ledger().await;
    (answer.status, answer.code().to_owned())
}

#[tokio::test]
async fn key_tenant_and_account_are_checked_again_under_the_account_lock() {
    for (change, bought, charged) in [
        (
            "UPDATE api_keys SET revoked_at = clock_timestamp()",
            (401, "invalid_api_key"),
            (200, "REVOKED"),
        ),
        ("UPDATE api_keys SET enabled = false", (401, "invalid_api_key"), (200, "DISABLED")),
        (
            "UPDATE api_keys SET expires_at = created_at + interval '1 microsecond'",
            (401, "invalid_api_key"),
            (200, "EXPIRED"),
        ),
        (
            "UPDATE api_keys SET scopes = '{read,orders:write}'",
            (403, "insufficient_scope"),
            (200, "INSUFFICIENT_SCOPE"),
        ),
        (
            "UPDATE accounts SET status = 'suspended'",
            (403, "account_suspended"),
            (200, "ACCOUNT_SUSPENDED"),
        ),
        (
            "UPDATE tenants SET status = 'suspended'",
            (403, "tenant_suspended"),
            (403, "tenant_suspended"),
        ),
    ] {
        for (route, (status, code)) in [(Route::Purchase, bought), (Route::Charge, charged)] {
            let response = purchase_during_change(change, route).await;
            assert_eq!(response, (status, code.to_owned()), "{change}");
        }
    }
}

#[tokio::test]
async fn revoked_key_buys_nothing_after_the_revocation_has_returned() {
    let app = App::start().await;
    let wallet = app.wallet("1000").await;
    let key = app.key(&app.tronagg, wallet).await;
    let calls: Vec<_> = (0..100).map(|_| key.buy("1")).collect();
    let router = app.router.clone();
    let purchases = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        for call in calls {
            tasks.spawn(tower::ServiceExt::oneshot(router.clone(), call.into_request()));
        }
        tasks.join_all().await.len()
    });
    eventually("ten entries exist", async || ledger_length(&app).await >= 10).await;
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    app.send(revoke).await.expect(200);
    let at_revoke = ledger_length(&app).await;
    assert_eq!(purchases.await.expect("the task does not panic"), 100);
    assert_eq!(ledger_length(&app).await, at_revoke);
    app.check_ledger().await;
}

#[tokio::test]
async fn blocked_account_leaves_database_connections_for_other_accounts() {
    let app = App::start().await;
    let wallet = app.wallet("1000").await;
    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let blocked = app.key(&app.tronagg, wallet).await;
    let other = app.key(&app.tronagg, OTHER_WALLET).await;
    let mut lock = app.pool.begin().await.expect("the transaction begins");
    sqlx::query("SELECT FROM accounts WHERE external_id = $1 FOR UPDATE")
        .bind(wallet)
        .execute(&mut *lock)
        .await
        .expect("Postgres grants the lock");
    // The number of purchases that wait for the lock exceeds the number of connections of the pool.
    let purchases: Vec<_> = (0..50)
        .map(|_| {
            let request = blocked.buy("1").into_request();
            tokio::spawn(tower::ServiceExt::oneshot(app.router.clone(), request))
        })
        .collect();
    app.wait_until_blocked(1).await;
    app.send(other.call("GET", "/v1/me")).await.expect(200);
    app.send(other.buy("1")).await.expect(201);
    app.send(Call::new("GET", "/readyz")).await.expect(200);
    lock.commit().await.expect("the transaction commits");
    for purchase in purchases {
        assert_eq!(
            purchase
                .await
                .expect("the task does not panic")
                .expect("the router is infallible")
                .status(),
            201
        );
    }
    assert_eq!(app.balance(&app.tronagg, wallet).await, "950.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn purchase_in_a_batch_completes_even_if_its_caller_disconnects() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let lock = app.lock_accounts().await;
    let request = key.buy("3").idempotency_key("gone").into_request();
    let task = tokio::spawn(tower::ServiceExt::oneshot(app.router.clone(), request));
    app.wait_until_blocked(1).await;
    task.abort();
    assert!(task.await.expect_err("the task was aborted").is_cancelled());
    lock.commit().await.expect("the transaction commits");
    eventually("the purchase is recorded", async || ledger_length(&app).await == 2).await;
    let replayed = app.send(key.buy("3").idempotency_key("gone")).await.expect(201);
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "7.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn credit_is_applied_once_per_idempotency_key() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let path = format!("/v1/accounts/{wallet}/credits");
    let credit =
        |key: &str, body: Value| app.tronagg.call("POST", &path).idempotency_key(key).json(body);
    let body = json!({"amount": "25", "reference": "payment 9"});
    let first = app.send(credit("p9", body.clone())).await.expect(201);
    assert_eq!(first.text("/amount"), "25.000000");
    assert_eq!(first.text("/balance_after"), "25.000000");
    let calls = (0..20).map(|_| credit("p9", body.clone())).collect();
    for (status, answer) in send_concurrently(&app, calls).await {
        assert_eq!((status, answer.as_bytes()), (201, &first.body[..]));
    }
    let mismatch = app.send(credit("p9", json!({"amount": "26", "reference": "payment 9"}))).await;
    mismatch.expect_problem(422, "idempotency_mismatch");
    let missing = app.tronagg.call("POST", &path).json(body.clone());
    let missing = app.send(missing).await.expect_problem(422, "validation_failed");
    assert_eq!(missing.errors_at(), ["Idempotency-Key"]);
    // Purchases and credits do not share idempotency keys.
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.buy("99").idempotency_key("p10"))
        .await
        .expect_problem(402, "insufficient_balance");
    app.send(key.buy("25").idempotency_key("p9")).await.expect(201);
    let next = app.send(credit("p10", body.clone())).await.expect(201);
    assert_eq!(next.header("idempotent-replayed"), None);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "25.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn credit_that_would_overflow_the_balance_is_rejected() {
    let app = App::start().await;
    let wallet = app.wallet("9223372036854.775807").await;
    let path = format!("/v1/accounts/{wallet}/credits");
    let call = app.tronagg.call("POST", &path).idempotency_key("x");
    let answer = app.send(call.json(json!({"amount": "0.000001"}))).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["/amount"]);
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.buy("9223372036854.775807")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn credit_to_an_unknown_account_returns_404() {
    let app = App::start().await;
    let call = app.tronagg.call("POST", &format!("/v1/accounts/{WALLET}/credits"));
    let answer = app.send(call.idempotency_key("x").json(json!({"amount": "1"}))).await;
    answer.expect_problem(404, "not_found");
}

#[tokio::test]
async fn purchases_and_ledger_entries_are_listed_newest_first_in_pages() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let (even, odd) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let mut bought = Vec::new();
    for number in 1..=6 {
        let key = if number % 2 == 0 { &even } else { &odd };
        bought.insert(0, app.send(key.buy(&number.to_string())).await.expect(201).json);
    }
    let listed = app.send(odd.call("GET", "/v1/purchases")).await.expect(200);
    assert_eq!(listed.data(), bought, "a key lists all purchases of the account, newest first");

    let path = format!("/v1/accounts/{wallet}/purchases");
    let by_even = app.send(app.tronagg.call("GET", &format!("{path}?key_id={}", even.id))).await;
    let expected: Vec<_> =
        bought.iter().filter(|purchase| purchase["key_id"] == json!(even.id)).cloned().collect();
    assert_eq!(by_even.expect(200).data(), expected);
    let page = app.send(app.tronagg.call("GET", &format!("{path}?limit=4"))).await.expect(200);
    let cursor = page.text("/next_cursor");
    let rest = app.send(app.tronagg.call("GET", &format!("{path}?limit=4&cursor={cursor}"))).await;
    assert_eq!(rest.expect(200).data(), &bought[4..]);

    let path = format!("/v1/accounts/{wallet}/ledger");
    let ledger = app.send(app.tronagg.call("GET", &path)).await.expect(200);
    let seqs: Vec<i64> = ledger
        .data()
        .iter()
        .map(|entry| entry["seq"].as_i64().expect("the member is a number"))
        .collect();
    assert_eq!(seqs, [7, 6, 5, 4, 3, 2, 1]);
    let newest = &ledger.data()[0];
    assert_eq!(newest["kind"], "purchase");
    assert_eq!(newest["amount"], "-6.000000");
    assert_eq!(newest["cause_id"], bought[0]["id"]);
    assert_eq!(newest["key_id"], json!(even.id));
    let opening = &ledger.data()[6];
    assert_eq!((&opening["kind"], &opening["amount"]), (&json!("credit"), &json!("100.000000")));
    assert!(opening["cause_id"].as_str().expect("the id is a string").starts_with("crd_"));
    let page = app.send(app.tronagg.call("GET", &format!("{path}?limit=3"))).await.expect(200);
    let cursor = page.text("/next_cursor");
    let rest = app.send(app.tronagg.call("GET", &format!("{path}?cursor={cursor}"))).await;
    assert_eq!(rest.expect(200).data(), &ledger.data()[3..]);
    app.check_ledger().await;
}

#[tokio::test]
async fn page_of_large_purchases_is_at_most_256_kib_and_its_cursor_continues_the_list() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key(&app.tronagg, wallet).await;
    let largest = json!({
        "amount": "1",
        "reference": "😀".repeat(Reference::MAX_CHARS),
        "description": "😀".repeat(Description::MAX_CHARS),
        "metadata": {"note": "x".repeat(MAX_METADATA_BYTES - r#"{"note":""}"#.len())},
    });
    let mut bought = Vec::new();
    for _ in 0..60 {
        let call = key.call("POST", "/v1/purchases").json(largest.clone());
        bought.insert(0, app.send(call).await.expect(201).json);
    }
    let of_tenant = format!("/v1/accounts/{wallet}/purchases?limit=100");
    for (first, of_key) in [("/v1/purchases?limit=100", true), (of_tenant.as_str(), false)] {
        let mut path = first.to_owned();
        let mut listed = Vec::new();
        loop {
            let call = if of_key { key.call("GET", &path) } else { app.tronagg.call("GET", &path) };
            let page = app.send(call).await.expect(200);
            let length = page.body.len();
            assert_eq!(page.header("content-type"), Some("application/json"));
            assert!(length <= 256 * 1024, "{length}");
            listed.extend_from_slice(page.data());
            let Some(cursor) = page.json["next_cursor"].as_str() else { break };
            assert!(length > 248 * 1024, "another purchase would fit: {length}");
            path = format!("{first}&cursor={cursor}");
        }
        assert_eq!(listed, bought);
    }
    app.check_ledger().await;
}
