//! Holds: reserved, then captured, voided or expired, exactly once.

use serde_json::{Value, json};
use tollgate::domain::audit::Origin;

use crate::harness::{Answer, App, Call, OTHER_WALLET, app::NewKey, eventually};

fn hold(key: &NewKey, amount: &str) -> Call {
    key.call("POST", "/v1/holds").json(json!({"amount": amount}))
}

fn capture(key: &NewKey, id: &str, body: Value) -> Call {
    key.call("POST", &format!("/v1/holds/{id}/capture")).json(body)
}

fn void(key: &NewKey, id: &str) -> Call {
    key.call("POST", &format!("/v1/holds/{id}/void"))
}

/// What of the balance is held, and what can be bought with.
async fn held_and_available(app: &App, key: &NewKey) -> (String, String) {
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    (me.text("/balance/held").to_owned(), me.text("/balance/available").to_owned())
}

/// Lets every open hold fall due, which the service would not do.
async fn fall_due(app: &App) {
    sqlx::query("ALTER TABLE holds DISABLE TRIGGER holds_change")
        .execute(&app.pool)
        .await
        .expect("the trigger is off");
    sqlx::query("UPDATE holds SET expires_at = created_at + interval '1 microsecond'")
        .execute(&app.pool)
        .await
        .expect("they are due");
    sqlx::query("ALTER TABLE holds ENABLE TRIGGER holds_change")
        .execute(&app.pool)
        .await
        .expect("the trigger is on");
}

#[tokio::test]
async fn hold_reserves_balance_and_capture_creates_a_purchase() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let body = json!({"amount": "4", "reference": "order 1", "expires_in": 60});
    let made = app.send(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    assert_eq!((made.text("/status"), made.text("/amount")), ("open", "4.000000"));
    assert_eq!((made.text("/reference"), made.text("/key_id")), ("order 1", key.id.as_str()));
    assert_eq!((&made.json["captured"], &made.json["closed_at"]), (&Value::Null, &Value::Null));
    assert_eq!(held_and_available(&app, &key).await, ("4.000000".into(), "6.000000".into()));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");

    // What is held cannot be spent.
    let declined = app.send(key.buy("6.000001")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    assert_eq!(declined.text("/available"), "6.000000");
    app.send(hold(&key, "6.000001")).await.expect_problem(402, "insufficient_balance");

    let id = made.text("/id");
    let captured = app.send(capture(&key, id, json!({"amount": "1.5"}))).await.expect(200);
    assert_eq!((captured.text("/status"), captured.text("/captured")), ("captured", "1.500000"));
    assert_eq!(held_and_available(&app, &key).await, ("0.000000".into(), "8.500000".into()));
    let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
    let purchase = app.send(key.call("GET", &path)).await.expect(200);
    assert_eq!((purchase.text("/amount"), purchase.text("/hold_id")), ("1.500000", id));
    assert_eq!(purchase.text("/reference"), "order 1");
    let path = format!("/v1/holds/{id}");
    assert_eq!(app.send(key.call("GET", &path)).await.expect(200).json, captured.json);
    app.check_ledger().await;
}

#[tokio::test]
async fn hold_is_captured_or_voided_exactly_once() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let make = async || app.send(hold(&key, "3")).await.expect(201).text("/id").to_owned();
    let is_replay = |answer: &Answer| answer.header("idempotent-replayed") == Some("true");

    let id = make().await;
    let first = app.send(capture(&key, &id, json!({}))).await.expect(200);
    assert!(!is_replay(&first));
    for (key, body) in [(&key, json!({})), (&other, json!({"amount": "3"}))] {
        let again = app.send(capture(key, &id, body)).await.expect(200);
        assert_eq!((&again.body, is_replay(&again)), (&first.body, true));
    }
    let other_amount = app.send(capture(&key, &id, json!({"amount": "2"}))).await;
    let other_amount = other_amount.expect_problem(409, "hold_not_open");
    assert_eq!(other_amount.text("/hold_status"), "captured");
    app.send(void(&key, &id)).await.expect_problem(409, "hold_not_open");

    let id = make().await;
    let first = app.send(void(&other, &id)).await.expect(200);
    assert_eq!((first.text("/status"), &first.json["purchase_id"]), ("voided", &Value::Null));
    let again = app.send(void(&key, &id)).await.expect(200);
    assert_eq!((&again.body, is_replay(&again)), (&first.body, true));
    app.send(capture(&key, &id, json!({}))).await.expect_problem(409, "hold_not_open");

    let id = make().await;
    let too_much = app.send(capture(&key, &id, json!({"amount": "3.000001"}))).await;
    assert_eq!(too_much.expect_problem(409, "hold_too_small").text("/held"), "3.000000");
    app.send(capture(&key, &id, json!({}))).await.expect(200);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "4.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn expired_hold_is_released_by_the_background_job() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "7")).await.expect(201).text("/id").to_owned();
    fall_due(&app).await;
    // It shows itself as what it is before anybody has released it.
    assert_eq!(held_and_available(&app, &key).await, ("0.000000".into(), "10.000000".into()));
    let path = format!("/v1/holds/{id}");
    let due = app.send(key.call("GET", &path)).await.expect(200);
    assert_eq!(due.text("/status"), "expired");
    let nobody = std::future::pending();
    let releasing = tokio::spawn(app.money.clone().release_holds(nobody));
    eventually("it is released", async || {
        let held: i64 = sqlx::query_scalar("SELECT held FROM accounts WHERE external_id = $1")
            .bind(wallet)
            .fetch_one(&app.pool)
            .await
            .expect("a number");
        held == 0
    })
    .await;
    releasing.abort();
    app.send(capture(&key, &id, json!({}))).await.expect_problem(409, "hold_not_open");
    app.send(void(&key, &id)).await.expect_problem(409, "hold_not_open");
    let bought = app.send(key.buy("10")).await.expect(201);
    assert_eq!(bought.text("/balance_after"), "0.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn purchase_can_spend_the_amount_of_an_expired_hold() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "7")).await.expect(201).text("/id").to_owned();
    fall_due(&app).await;
    // Without anybody to release it: the batch does so itself.
    app.send(key.buy("10")).await.expect(201);
    let found = app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
    assert_eq!(found.text("/status"), "expired");
    app.check_ledger().await;
}

#[tokio::test]
async fn concurrent_capture_void_and_expiry_close_a_hold_once() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let nodes = [app.router.clone(), app.another_node().await];
    let send = |node: usize, call: Call| {
        tokio::spawn(tower::ServiceExt::oneshot(nodes[node].clone(), call.into_request()))
    };
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..40 {
        let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
        // Both wait for the account; it falls due under their eyes every other time.
        let mut lock = app.lock_accounts().await;
        let racing = [
            send(round % 2, capture(&key, &id, json!({}))),
            send((round + 1) % 2, void(&other, &id)),
        ];
        app.wait_until_blocked(2).await;
        if round % 4 == 3 {
            for statement in [
                "ALTER TABLE holds DISABLE TRIGGER holds_change",
                "UPDATE holds SET expires_at = created_at + interval '1 microsecond'
                 WHERE status = 'open'",
                "ALTER TABLE holds ENABLE TRIGGER holds_change",
            ] {
                sqlx::query(statement).execute(&mut *lock).await.expect("it is due");
            }
        }
        lock.commit().await.expect("the commit");
        let mut statuses = Vec::new();
        for answer in racing {
            statuses.push(answer.await.expect("no panic").expect("an answer").status().as_u16());
        }
        let end = app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
        let end = end.text("/status").to_owned();
        let expected = match end.as_str() {
            "captured" => [200, 409],
            "voided" => [409, 200],
            _ => [409, 409],
        };
        assert_eq!(statuses, expected, "it is {end}");
        *ends.entry(end).or_insert(0) += 1;
    }
    assert_eq!(ends["expired"], 10);
    assert!(ends.len() == 3, "each came first at some time: {ends:?}");
    let bought = 100 - ends["captured"];
    assert_eq!(app.balance(&app.tronagg, wallet).await, format!("{bought}.000000"));
    app.check_ledger().await;
}

#[tokio::test]
async fn replayed_hold_returns_its_first_response_even_after_a_capture() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let first = app.send(hold(&key, "2").idempotency_key("h")).await.expect(201);
    app.send(capture(&key, first.text("/id"), json!({"amount": "1"}))).await.expect(200);
    let again = app.send(hold(&other, "2").idempotency_key("h")).await.expect(201);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let mismatch = app.send(hold(&key, "3").idempotency_key("h")).await;
    mismatch.expect_problem(422, "idempotency_mismatch");
    // A purchase has keys of its own.
    app.send(key.buy("1").idempotency_key("h")).await.expect(201);
    let declined = app.send(hold(&key, "9").idempotency_key("big")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    let again = app.send(hold(&key, "9").idempotency_key("big")).await;
    assert_eq!((again.status, &again.body), (402, &declined.body));
    app.check_ledger().await;
}

#[tokio::test]
async fn holds_are_listed_by_status_and_hidden_from_other_accounts() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut ids = Vec::new();
    for amount in ["1", "2", "3"] {
        ids.push(app.send(hold(&key, amount)).await.expect(201).text("/id").to_owned());
    }
    app.send(void(&key, &ids[1])).await.expect(200);
    let list = async |query: &str| {
        let answer = app.send(key.call("GET", &format!("/v1/holds{query}"))).await.expect(200);
        let id = |hold: &Value| hold["id"].as_str().expect("an id").to_owned();
        answer.data().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [ids[2].as_str(), &ids[1], &ids[0]]);
    assert_eq!(list("?status=open").await, [ids[2].as_str(), &ids[0]]);
    assert_eq!(list("?status=voided").await, [ids[1].as_str()]);
    assert_eq!(list("?limit=2").await, [ids[2].as_str(), &ids[1]]);
    let wrong = app.send(key.call("GET", "/v1/holds?status=shut")).await;
    assert_eq!(wrong.expect_problem(422, "validation_failed").wrong(), ["status"]);

    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let stranger = app.key(&app.tronagg, OTHER_WALLET).await;
    for call in [
        capture(&stranger, &ids[0], json!({})),
        void(&stranger, &ids[0]),
        stranger.call("GET", &format!("/v1/holds/{}", ids[0])),
        void(&key, "hld_nonsense"),
        void(&key, &ids[0].replace("hld_", "pur_")),
    ] {
        app.send(call).await.expect_problem(404, "not_found");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn invalid_hold_requests_are_rejected_with_their_json_pointers() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    for (body, wrong) in [
        (json!({}), vec!["/amount"]),
        (
            json!({"amount": 1, "expires_in": 0, "reference": ""}),
            vec!["/amount", "/expires_in", "/reference"],
        ),
        (json!({"amount": "1", "expires_in": 604_801}), vec!["/expires_in"]),
        (json!({"amount": "1", "expires_in": "60", "extra": 1}), vec!["/expires_in", "/extra"]),
    ] {
        let answer = app.send(key.call("POST", "/v1/holds").json(body)).await;
        assert_eq!(answer.expect_problem(422, "validation_failed").wrong(), wrong);
    }
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    let zero = app.send(capture(&key, &id, json!({"amount": "0"}))).await;
    assert_eq!(zero.expect_problem(422, "validation_failed").wrong(), ["/amount"]);
    let body = key.call("POST", &format!("/v1/holds/{id}/void")).json(json!({"why": "x"}));
    assert_eq!(app.send(body).await.expect_problem(422, "validation_failed").wrong(), ["/why"]);
    let reader = app.key_with(&app.tronagg, wallet, json!({"name": "r", "scopes": ["read"]})).await;
    for call in [hold(&reader, "1"), capture(&reader, &id, json!({})), void(&reader, &id)] {
        app.send(call).await.expect_problem(403, "insufficient_scope");
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn account_has_at_most_1000_open_holds() {
    let app = App::start().await;
    let wallet = app.wallet("10000").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    sqlx::query(
        "INSERT INTO holds (account_id, hold_id, key_id, amount, status, created_at, expires_at)
         SELECT account_id, gen_random_uuid(), key_id, amount, status, created_at, expires_at
         FROM holds CROSS JOIN generate_series(1, 998)",
    )
    .execute(&app.pool)
    .await
    .expect("they are made");
    sqlx::query("UPDATE accounts SET held = 999 * held WHERE held > 0")
        .execute(&app.pool)
        .await
        .expect("they are held");
    app.send(hold(&key, "1").idempotency_key("last")).await.expect(201);
    app.send(hold(&key, "1")).await.expect_problem(409, "hold_limit_reached");
    // It was made before: its replay needs no room.
    app.send(hold(&key, "1").idempotency_key("last")).await.expect(201);
    app.send(void(&key, &id)).await.expect(200);
    app.send(hold(&key, "1")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn revoked_key_cannot_capture_its_hold_but_another_key_can() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "4")).await.expect(201).text("/id").to_owned();
    let origin = Origin::cli();
    let account = key.path.split('/').nth(3).expect("an account");
    let account = tollgate::domain::account::ExternalId::parse(
        account,
        tollgate::domain::account::AccountFormat::Tron,
    )
    .expect("an account");
    let key_id = key.id.parse().expect("an id");
    app.store
        .account(&app.tronagg.tenant, &account, &origin)
        .revoke_api_key(key_id, None)
        .await
        .expect("revoked");
    app.send(capture(&key, &id, json!({}))).await.expect_problem(401, "invalid_api_key");
    let captured = app.send(capture(&other, &id, json!({}))).await.expect(200);
    // The hold is of the one, the purchase of the other.
    assert_eq!(captured.text("/key_id"), key.id);
    let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
    assert_eq!(app.send(other.call("GET", &path)).await.expect(200).text("/key_id"), other.id);
    app.check_ledger().await;
}
