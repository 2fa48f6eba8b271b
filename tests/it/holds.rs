//! Holds: each is captured, voided or expired exactly once.

use serde_json::{Value, json};
use tollgate::{
    domain::{
        account::{AccountFormat, AccountId, ExternalId},
        amount::Amount,
        hold::{HoldLimit, HoldSeconds, NewHold},
        id::{BatchId, HoldId, KeyId, RequestId},
    },
    store::{Batch, BatchConnection, BatchOutcome, Operation, OperationAction, Refusal},
};
use uuid::Uuid;

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

/// The held and the available part of the balance.
async fn held_and_available(app: &App, key: &NewKey) -> (String, String) {
    let me = app.send(key.call("GET", "/v1/me")).await.expect(200);
    (me.text("/balance/held").to_owned(), me.text("/balance/available").to_owned())
}

/// Makes every open hold expire just after its creation, which the service does not allow.
async fn expire_holds(app: &App) {
    sqlx::query("ALTER TABLE holds DISABLE TRIGGER holds_change")
        .execute(&app.pool)
        .await
        .expect("the trigger is off");
    sqlx::query(
        "UPDATE holds SET expires_at = created_at + interval '1 microsecond' WHERE status = 'open'",
    )
    .execute(&app.pool)
    .await
    .expect("the expiries are set");
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
    let created = app.send(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    assert_eq!((created.text("/status"), created.text("/amount")), ("open", "4.000000"));
    assert_eq!((created.text("/reference"), created.text("/key_id")), ("order 1", key.id.as_str()));
    assert_eq!(
        (&created.json["captured"], &created.json["closed_at"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(held_and_available(&app, &key).await, ("4.000000".into(), "6.000000".into()));
    assert_eq!(app.balance(&app.tronagg, wallet).await, "10.000000");

    // The held amount cannot be spent.
    let declined = app.send(key.buy("6.000001")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    assert_eq!(declined.text("/available"), "6.000000");
    let declined = app.send(hold(&key, "6.000001")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    assert_eq!(
        declined.text("/detail"),
        "The hold needs 6.000001 TRX, but only 6.000000 TRX is available. Top up the account."
    );

    let id = created.text("/id");
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
    let create = async || app.send(hold(&key, "3")).await.expect(201).text("/id").to_owned();
    let is_replay = |answer: &Answer| answer.header("idempotent-replayed") == Some("true");

    let id = create().await;
    let first = app.send(capture(&key, &id, json!({}))).await.expect(200);
    assert!(!is_replay(&first));
    for (key, body) in [(&key, json!({})), (&other, json!({"amount": "3"}))] {
        let repeated = app.send(capture(key, &id, body)).await.expect(200);
        assert_eq!((&repeated.body, is_replay(&repeated)), (&first.body, true));
    }
    let other_amount = app.send(capture(&key, &id, json!({"amount": "2"}))).await;
    let other_amount = other_amount.expect_problem(409, "hold_not_open");
    assert_eq!(other_amount.text("/hold_status"), "captured");
    app.send(void(&key, &id)).await.expect_problem(409, "hold_not_open");

    let id = create().await;
    let first = app.send(void(&other, &id)).await.expect(200);
    assert_eq!((first.text("/status"), &first.json["purchase_id"]), ("voided", &Value::Null));
    let repeated = app.send(void(&key, &id)).await.expect(200);
    assert_eq!((&repeated.body, is_replay(&repeated)), (&first.body, true));
    app.send(capture(&key, &id, json!({}))).await.expect_problem(409, "hold_not_open");

    let id = create().await;
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
    expire_holds(&app).await;
    // The API shows the hold as expired before the job has released it.
    assert_eq!(held_and_available(&app, &key).await, ("0.000000".into(), "10.000000".into()));
    let path = format!("/v1/holds/{id}");
    let expired = app.send(key.call("GET", &path)).await.expect(200);
    assert_eq!(expired.text("/status"), "expired");
    let no_stop = std::future::pending();
    let release_job = tokio::spawn(app.money.clone().release_holds(no_stop));
    eventually("the hold is released", async || {
        let held: i64 = sqlx::query_scalar("SELECT held FROM accounts WHERE external_id = $1")
            .bind(wallet)
            .fetch_one(&app.pool)
            .await
            .expect("a number");
        held == 0
    })
    .await;
    release_job.abort();
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
    expire_holds(&app).await;
    // No job runs here: the batch releases the hold itself.
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
    let send_to = |node: usize, call: Call| {
        tokio::spawn(tower::ServiceExt::oneshot(nodes[node].clone(), call.into_request()))
    };
    let mut final_statuses = std::collections::BTreeMap::new();
    for round in 0..40 {
        let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
        // Both requests wait for the account. In every fourth round the hold expires meanwhile.
        let mut lock = app.lock_accounts().await;
        let requests = [
            send_to(round % 2, capture(&key, &id, json!({}))),
            send_to((round + 1) % 2, void(&other, &id)),
        ];
        app.wait_until_blocked(2).await;
        if round % 4 == 3 {
            for statement in [
                "ALTER TABLE holds DISABLE TRIGGER holds_change",
                "UPDATE holds SET expires_at = created_at + interval '1 microsecond'
                 WHERE status = 'open'",
                "ALTER TABLE holds ENABLE TRIGGER holds_change",
            ] {
                sqlx::query(statement).execute(&mut *lock).await.expect("the hold has expired");
            }
        }
        lock.commit().await.expect("the commit");
        let mut statuses = Vec::new();
        for answer in requests {
            statuses.push(answer.await.expect("no panic").expect("an answer").status().as_u16());
        }
        let hold = app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200);
        let final_status = hold.text("/status").to_owned();
        let expected = match final_status.as_str() {
            "captured" => [200, 409],
            "voided" => [409, 200],
            _ => [409, 409],
        };
        assert_eq!(statuses, expected, "the hold is {final_status}");
        *final_statuses.entry(final_status).or_insert(0) += 1;
    }
    assert_eq!(final_statuses["expired"], 10);
    assert!(final_statuses.len() == 3, "each outcome occurs: {final_statuses:?}");
    let balance = 100 - final_statuses["captured"];
    assert_eq!(app.balance(&app.tronagg, wallet).await, format!("{balance}.000000"));
    app.check_ledger().await;
}

#[tokio::test]
async fn replayed_hold_returns_its_first_response_even_after_a_capture() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let first = app.send(hold(&key, "2").idempotency_key("h")).await.expect(201);
    app.send(capture(&key, first.text("/id"), json!({"amount": "1"}))).await.expect(200);
    let repeated = app.send(hold(&other, "2").idempotency_key("h")).await.expect(201);
    assert_eq!(repeated.body, first.body);
    assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
    let mismatch = app.send(hold(&key, "3").idempotency_key("h")).await;
    mismatch.expect_problem(422, "idempotency_mismatch");
    // Purchases and holds do not share idempotency keys.
    app.send(key.buy("1").idempotency_key("h")).await.expect(201);
    let declined = app.send(hold(&key, "9").idempotency_key("big")).await;
    let declined = declined.expect_problem(402, "insufficient_balance");
    let repeated = app.send(hold(&key, "9").idempotency_key("big")).await;
    assert_eq!((repeated.status, &repeated.body), (402, &declined.body));
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
    let refused = app.send(key.call("GET", "/v1/holds?status=shut")).await;
    assert_eq!(refused.expect_problem(422, "validation_failed").errors_at(), ["status"]);

    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let other_key = app.key(&app.tronagg, OTHER_WALLET).await;
    for call in [
        capture(&other_key, &ids[0], json!({})),
        void(&other_key, &ids[0]),
        other_key.call("GET", &format!("/v1/holds/{}", ids[0])),
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
    for (body, locations) in [
        (json!({}), vec!["/amount"]),
        (
            json!({"amount": 1, "expires_in": 0, "reference": ""}),
            vec!["/amount", "/expires_in", "/reference"],
        ),
        (json!({"amount": "1", "expires_in": 604_801}), vec!["/expires_in"]),
        (json!({"amount": "1", "expires_in": "60", "extra": 1}), vec!["/expires_in", "/extra"]),
    ] {
        let answer = app.send(key.call("POST", "/v1/holds").json(body)).await;
        assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), locations);
    }
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    let zero = app.send(capture(&key, &id, json!({"amount": "0"}))).await;
    assert_eq!(zero.expect_problem(422, "validation_failed").errors_at(), ["/amount"]);
    let unknown_field = key.call("POST", &format!("/v1/holds/{id}/void")).json(json!({"why": "x"}));
    assert_eq!(
        app.send(unknown_field).await.expect_problem(422, "validation_failed").errors_at(),
        ["/why"]
    );
    let reader = app.key_with(&app.tronagg, wallet, json!({"name": "r", "scopes": ["read"]})).await;
    for call in [hold(&reader, "1"), capture(&reader, &id, json!({})), void(&reader, &id)] {
        app.send(call).await.expect_problem(403, "insufficient_scope");
    }
    app.check_ledger().await;
}

/// Revokes a key as the backend does. Returns the response.
async fn revoke(app: &App, key: &NewKey, body: Value) -> Answer {
    let call = app.tronagg.call("POST", &format!("{}/revoke", key.path)).json(body);
    app.send(call).await.expect(200)
}

/// Adds copies of a hold, as holds of a key of its account.
async fn copy_hold(app: &App, holder: &NewKey, number: i32) {
    let key_id = holder.id.parse::<KeyId>().expect("an id").uuid();
    let mut tx = app.pool.begin().await.expect("a transaction");
    sqlx::query(
        "INSERT INTO holds (account_id, hold_id, key_id, amount, status, created_at, expires_at)
         SELECT account_id, gen_random_uuid(), $1, amount, status, created_at, expires_at
         FROM (SELECT * FROM holds LIMIT 1) AS original CROSS JOIN generate_series(1, $2)",
    )
    .bind(key_id)
    .bind(number)
    .execute(&mut *tx)
    .await
    .expect("the holds are inserted");
    sqlx::query(
        "UPDATE accounts SET held = (SELECT sum(amount) FROM holds
                                     WHERE account_id = accounts.account_id AND status = 'open')
         WHERE held > 0",
    )
    .execute(&mut *tx)
    .await
    .expect("the held amount is updated");
    tx.commit().await.expect("the commit");
}

#[tokio::test]
async fn key_has_at_most_200_open_holds_and_leaves_room_for_other_keys() {
    let app = App::start().await;
    let wallet = app.wallet("10000").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    copy_hold(&app, &key, 198).await;

    // Two nodes place a hold concurrently.
    let nodes = [app.router.clone(), app.another_node().await];
    let lock = app.lock_accounts().await;
    let requests = nodes
        .map(|node| tokio::spawn(tower::ServiceExt::oneshot(node, hold(&key, "1").into_request())));
    app.wait_until_blocked(2).await;
    lock.commit().await.expect("the commit");
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.expect("no panic").expect("an answer").status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);

    let refused = app.send(hold(&key, "1")).await.expect_problem(409, "hold_limit_reached");
    assert_eq!(
        refused.text("/detail"),
        "The key has 200 open holds and may not have more. Capture or void one of them first."
    );
    app.send(hold(&other, "1")).await.expect(201);
    app.send(void(&key, &id)).await.expect(200);
    app.send(hold(&key, "1")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn holds_in_one_batch_count_toward_the_limit_of_their_key() {
    let app = App::start().await;
    let wallet = app.wallet("10000").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    app.send(hold(&key, "1")).await.expect(201);
    copy_hold(&app, &key, 198).await;
    let account = ExternalId::parse(wallet, AccountFormat::Tron).expect("an account");
    let operation = |key: &NewKey, number: u128| Operation {
        account_id: AccountId::derive(app.tronagg.tenant.id, &account),
        key_id: key.id.parse().expect("an id"),
        request_id: RequestId::from_uuid(Uuid::from_u128(number)),
        action: OperationAction::Hold {
            id: HoldId::from_uuid(Uuid::from_u128(number)),
            hold: NewHold {
                amount: Amount::from_minor_units(1).expect("more than zero"),
                reference: None,
                expires_in: HoldSeconds::default(),
            },
            idempotency_key: None,
        },
    };
    let operations =
        vec![operation(&key, 1), operation(&other, 2), operation(&key, 3), operation(&other, 4)];
    let id = BatchId::from_uuid(Uuid::from_u128(5));
    let batch = Batch { id, attempt: 1, wait: true, operations };
    let outcomes = app.store.apply(&mut BatchConnection::default(), &batch).await;
    let outcomes = outcomes.expect("the batch is applied");
    let refused = BatchOutcome::Refused(Refusal::HoldLimitReached(HoldLimit::Key));
    let is_refused: Vec<bool> = outcomes.iter().map(|outcome| *outcome == refused).collect();
    assert_eq!(is_refused, [false, false, true, false], "{outcomes:?}");
    app.check_ledger().await;
}

#[tokio::test]
async fn account_has_at_most_1000_open_holds() {
    let app = App::start().await;
    let wallet = app.wallet("10000").await;
    let mut holders = Vec::new();
    for _ in 0..5 {
        let holder = app.key(&app.tronagg, wallet).await;
        revoke(&app, &holder, json!({})).await;
        holders.push(holder);
    }
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    for (holder, number) in holders.iter().zip([200, 200, 200, 200, 198]) {
        copy_hold(&app, holder, number).await;
    }
    app.send(hold(&key, "1").idempotency_key("last")).await.expect(201);
    let refused = app.send(hold(&key, "1")).await.expect_problem(409, "hold_limit_reached");
    assert_eq!(
        refused.text("/detail"),
        "The account has 1000 open holds and may not have more. Capture or void one of them first."
    );
    // A replay of an earlier hold is not limited.
    app.send(hold(&key, "1").idempotency_key("last")).await.expect(201);
    app.send(void(&key, &id)).await.expect(200);
    app.send(hold(&key, "1")).await.expect(201);
    app.check_ledger().await;
}

/// The audit events of an action, newest first.
async fn events(app: &App, action: &str) -> Vec<Value> {
    let answer = app.send(app.tronagg.call("GET", "/v1/audit-events?limit=100")).await.expect(200);
    answer.data().iter().filter(|event| event["action"] == action).cloned().collect()
}

async fn find(app: &App, key: &NewKey, id: &str) -> Answer {
    app.send(key.call("GET", &format!("/v1/holds/{id}"))).await.expect(200)
}

#[tokio::test]
async fn revoking_a_key_voids_its_open_holds_and_no_others() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let place = async |key: &NewKey, amount: &str| {
        let body = json!({"amount": amount, "expires_in": 604_800});
        let call = key.call("POST", "/v1/holds").json(body).idempotency_key(amount);
        app.send(call).await.expect(201)
    };
    let id = |made: &Answer| made.text("/id").to_owned();
    let captured = id(&place(&key, "1").await);
    app.send(capture(&key, &captured, json!({}))).await.expect(200);
    let first = place(&key, "2").await;
    let (first_id, second) = (id(&first), id(&place(&key, "3").await));
    let kept = id(&place(&other, "4").await);
    assert_eq!(first.json["void_reason"], Value::Null);

    revoke(&app, &key, json!({"reason": "leaked"})).await;
    assert_eq!(held_and_available(&app, &other).await, ("4.000000".into(), "5.000000".into()));
    for id in [&first_id, &second] {
        let hold = find(&app, &other, id).await;
        assert_eq!((hold.text("/status"), hold.text("/void_reason")), ("voided", "key_revoked"));
        assert_ne!(hold.json["closed_at"], Value::Null);
        // Another key gets what it gets for every voided hold.
        let refused = app.send(capture(&other, id, json!({}))).await;
        let refused = refused.expect_problem(409, "hold_not_open");
        assert_eq!(refused.text("/hold_status"), "voided");
        let before = find(&app, &other, id).await.body;
        assert_eq!(app.send(void(&other, id)).await.expect(200).body, before);
    }
    assert_eq!(find(&app, &other, &kept).await.text("/status"), "open");
    assert_eq!(find(&app, &other, &captured).await.text("/status"), "captured");
    app.send(capture(&key, &first_id, json!({}))).await.expect_problem(401, "invalid_api_key");
    // A replay still has the first response.
    let again = json!({"amount": "2", "expires_in": 604_800});
    let again = other.call("POST", "/v1/holds").json(again).idempotency_key("2");
    let again = app.send(again).await.expect(201);
    assert_eq!((&again.body, again.header("idempotent-replayed")), (&first.body, Some("true")));

    let revocation = json!({
        "reason": "leaked",
        "voided_holds": [first_id, second],
        "voided_amount": "5.000000",
        "currency": "TRX",
    });
    revoke(&app, &key, json!({})).await;
    let events = events(&app, "api_key.revoke").await;
    let details: Vec<&Value> = events.iter().map(|event| &event["detail"]).collect();
    assert_eq!(details, [&revocation]);
    app.check_ledger().await;
}

#[tokio::test]
async fn revoking_a_key_frees_the_rest_of_its_spend_limit_for_its_successor() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let body = json!({"name": "a", "spend_limit": {"amount": "5", "period": "total"}});
    let old = app.key_with(&app.tronagg, wallet, body).await;
    app.send(hold(&old, "5")).await.expect(201);
    let new = rotate(&app, &old, 3600).await;
    app.send(new.buy("1")).await.expect_problem(402, "spend_limit_exceeded");
    revoke(&app, &old, json!({})).await;
    app.send(new.buy("5")).await.expect(201);
    app.send(new.buy("0.000001")).await.expect_problem(402, "spend_limit_exceeded");
    app.check_ledger().await;
}

/// Rotates a key. Returns the key that replaces it.
async fn rotate(app: &App, key: &NewKey, grace_seconds: i64) -> NewKey {
    let call = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    let rotated = app.send(call.json(json!({"grace_seconds": grace_seconds}))).await.expect(201);
    let id = rotated.text("/id").to_owned();
    let account = key.path.rsplit_once('/').expect("a path").0;
    NewKey { text: rotated.text("/key").to_owned(), path: format!("{account}/{id}"), id }
}

#[tokio::test]
async fn rotation_and_expiry_of_a_key_leave_its_holds_open_for_its_successor() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    for grace_seconds in [0, 3600] {
        let old = app.key(&app.tronagg, wallet).await;
        let id = app.send(hold(&old, "2")).await.expect(201).text("/id").to_owned();
        let new = rotate(&app, &old, grace_seconds).await;
        assert_eq!(find(&app, &new, &id).await.text("/status"), "open");
        let captured = app.send(capture(&new, &id, json!({}))).await.expect(200);
        // The hold keeps its key; the purchase has the key that captured it.
        assert_eq!(captured.text("/key_id"), old.id);
        let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
        assert_eq!(app.send(new.call("GET", &path)).await.expect(200).text("/key_id"), new.id);
    }
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    app.expire(&key).await;
    app.send(capture(&other, &id, json!({}))).await.expect(200);
    app.check_ledger().await;
}

#[tokio::test]
async fn revoking_a_dead_key_voids_the_holds_that_it_left_open() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    app.expire(&key).await;
    for _ in 0..2 {
        let dead = revoke(&app, &key, json!({})).await;
        assert_eq!((dead.text("/status"), &dead.json["revoked_at"]), ("expired", &Value::Null));
    }
    assert_eq!(find(&app, &other, &id).await.text("/void_reason"), "key_revoked");
    assert_eq!(events(&app, "api_key.revoke").await.len(), 1);
    app.check_ledger().await;
}

#[tokio::test]
async fn hold_that_expired_before_its_key_is_revoked_stays_expired() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let id = app.send(hold(&key, "2")).await.expect(201).text("/id").to_owned();
    expire_holds(&app).await;
    revoke(&app, &key, json!({})).await;
    let hold = find(&app, &other, &id).await;
    assert_eq!((hold.text("/status"), &hold.json["void_reason"]), ("expired", &Value::Null));
    assert_eq!(events(&app, "api_key.revoke").await[0]["detail"], json!({"reason": null}));
    app.check_ledger().await;
}

#[tokio::test]
async fn capture_and_concurrent_revoke_of_the_holder_close_a_hold_once() {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let capturer = app.key(&app.tronagg, wallet).await;
    let nodes = [app.router.clone(), app.another_node().await];
    let mut final_statuses = std::collections::BTreeMap::new();
    for round in 0..40 {
        let holder = app.key(&app.tronagg, wallet).await;
        let id = app.send(hold(&holder, "1")).await.expect(201).text("/id").to_owned();
        let revoke = app.tronagg.call("POST", &format!("{}/revoke", holder.path));
        let calls = [capture(&capturer, &id, json!({})), revoke.json(json!({}))];
        // In every second round the revoke is sent first.
        let lock = app.lock_accounts().await;
        let mut requests = [None, None];
        for (number, which) in [round % 2, (round + 1) % 2].into_iter().enumerate() {
            let request = calls[which].clone().into_request();
            let node = nodes[(round / 2 + which) % 2].clone();
            requests[which] = Some(tokio::spawn(tower::ServiceExt::oneshot(node, request)));
            app.wait_until_blocked(i64::try_from(number + 1).expect("at most two")).await;
        }
        lock.commit().await.expect("the commit");
        let mut statuses = Vec::new();
        for request in requests.into_iter().flatten() {
            statuses.push(request.await.expect("no panic").expect("an answer").status().as_u16());
        }
        let hold = find(&app, &capturer, &id).await;
        let final_status = hold.text("/status").to_owned();
        let expected = if final_status == "captured" { [200, 200] } else { [409, 200] };
        assert_eq!(statuses, expected, "the hold is {final_status}");
        let is_voided = final_status == "voided";
        assert_eq!(hold.json["void_reason"] == "key_revoked", is_voided, "{hold:?}");
        assert_eq!(held_and_available(&app, &capturer).await.0, "0.000000");
        *final_statuses.entry(final_status).or_insert(0) += 1;
    }
    assert_eq!(final_statuses.len(), 2, "each outcome occurs: {final_statuses:?}");
    let balance = 100 - final_statuses["captured"];
    assert_eq!(app.balance(&app.tronagg, wallet).await, format!("{balance}.000000"));
    app.check_ledger().await;
}

#[tokio::test]
async fn backend_voids_any_open_hold_once_even_of_a_suspended_account() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let body = json!({"amount": "4", "reference": "order 1"});
    let id = app.send(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    let id = id.text("/id").to_owned();
    let account = format!("/v1/accounts/{wallet}");
    let suspend = app.tronagg.call("PATCH", &account).json(json!({"status": "suspended"}));
    app.send(suspend).await.expect(200);
    let void = |id: &str| app.tronagg.call("POST", &format!("{account}/holds/{id}/void"));
    let voided = app.send(void(&id)).await.expect(200);
    assert_eq!((voided.text("/status"), voided.text("/void_reason")), ("voided", "admin_key"));
    assert_eq!(app.send(void(&id).json(json!({}))).await.expect(200).body, voided.body);
    let found = app.send(app.tronagg.call("GET", &account)).await.expect(200);
    assert_eq!(found.text("/balance/held"), "0.000000");

    let events = events(&app, "hold.void").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["target_id"], json!(id));
    assert_eq!((&events[0]["actor"], &events[0]["account"]), (&json!("admin_key"), &json!(wallet)));
    let detail =
        json!({"key_id": key.id, "amount": "4.000000", "currency": "TRX", "reference": "order 1"});
    assert_eq!(events[0]["detail"], detail);
    app.check_ledger().await;
}

#[tokio::test]
async fn backend_cannot_void_a_captured_or_expired_hold_and_leaves_a_voided_one() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let place = async || app.send(hold(&key, "1")).await.expect(201).text("/id").to_owned();
    let path = |id: &str| format!("/v1/accounts/{wallet}/holds/{id}/void");
    let captured = place().await;
    app.send(capture(&key, &captured, json!({}))).await.expect(200);
    let voided = place().await;
    let by_key = app.send(void(&key, &voided)).await.expect(200);
    assert_eq!(by_key.text("/void_reason"), "api_key");
    let again = app.send(app.tronagg.call("POST", &path(&voided))).await.expect(200);
    assert_eq!(again.body, by_key.body);
    let expired = place().await;
    expire_holds(&app).await;
    for (id, status) in [(&captured, "captured"), (&expired, "expired")] {
        let refused = app.send(app.tronagg.call("POST", &path(id))).await;
        let refused = refused.expect_problem(409, "hold_not_open");
        assert_eq!(refused.text("/hold_status"), status);
    }
    for wrong in ["hld_01h455vb4pex5vsknk084sn02q", "hld_nonsense", key.id.as_str()] {
        let answer = app.send(app.tronagg.call("POST", &path(wrong))).await;
        answer.expect_problem(404, "not_found");
    }
    let unknown_field = app.tronagg.call("POST", &path(&voided)).json(json!({"why": "x"}));
    app.send(unknown_field).await.expect_problem(422, "validation_failed");
    assert_eq!(events(&app, "hold.void").await, Vec::<Value>::new());
    app.check_ledger().await;
}

#[tokio::test]
async fn concurrent_voids_of_the_backend_write_one_audit_event() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "4")).await.expect(201).text("/id").to_owned();
    let call = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/holds/{id}/void"));
    let lock = app.lock_accounts().await;
    let requests = [app.router.clone(), app.another_node().await]
        .map(|node| tokio::spawn(tower::ServiceExt::oneshot(node, call.clone().into_request())));
    app.wait_until_blocked(2).await;
    lock.commit().await.expect("the commit");
    for request in requests {
        let answer = request.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status().as_u16(), 200);
    }
    assert_eq!(events(&app, "hold.void").await.len(), 1);
    assert_eq!(held_and_available(&app, &key).await.1, "10.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn backend_lists_holds_of_an_account_by_status_and_by_key() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let (key, other) = (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await);
    let mut ids = Vec::new();
    for key in [&key, &key, &other] {
        ids.push(app.send(hold(key, "1")).await.expect(201).text("/id").to_owned());
    }
    app.send(void(&key, &ids[0])).await.expect(200);
    let list = async |query: &str| {
        let path = format!("/v1/accounts/{wallet}/holds{query}");
        app.send(app.tronagg.call("GET", &path)).await.expect(200)
    };
    let listed = async |query: &str| {
        let id = |hold: &Value| hold["id"].as_str().expect("an id").to_owned();
        list(query).await.data().iter().map(id).collect::<Vec<_>>()
    };
    let of_key = format!("?key_id={}", key.id);
    assert_eq!(listed("").await, [ids[2].as_str(), &ids[1], &ids[0]]);
    assert_eq!(listed(&of_key).await, [ids[1].as_str(), &ids[0]]);
    assert_eq!(listed("?status=open").await, [ids[2].as_str(), &ids[1]]);
    assert_eq!(listed(&format!("{of_key}&status=open")).await, [ids[1].as_str()]);
    assert_eq!(listed(&format!("{of_key}&status=expired")).await, Vec::<String>::new());
    let page = list(&format!("{of_key}&limit=1")).await;
    let cursor = page.text("/next_cursor");
    assert_eq!(listed(&format!("{of_key}&limit=1&cursor={cursor}")).await, [ids[0].as_str()]);
    // A cursor belongs to its filter.
    let path = format!("/v1/accounts/{wallet}/holds?limit=1&cursor={cursor}");
    let answer = app.send(app.tronagg.call("GET", &path)).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["cursor"]);
    app.check_ledger().await;
}
