//! The tenant's backend voids and lists holds of an account.

use serde_json::{Value, json};

use super::calls::{capture, events, expire_holds, held_and_available, hold, void};
use crate::harness::App;

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
async fn backend_cannot_void_a_captured_or_expired_hold_or_void_a_hold_twice() {
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
async fn concurrent_voids_of_a_hold_by_the_backend_write_one_audit_event() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let id = app.send(hold(&key, "4")).await.expect(201).text("/id").to_owned();
    let call = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/holds/{id}/void"));
    let lock = app.lock_accounts().await;
    let requests = [app.router.clone(), app.another_node().await]
        .map(|node| tokio::spawn(tower::ServiceExt::oneshot(node, call.clone().into_request())));
    app.wait_until_blocked(2).await;
    lock.commit().await.expect("the commit succeeds");
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
    // A cursor is valid only with its original filter.
    let path = format!("/v1/accounts/{wallet}/holds?limit=1&cursor={cursor}");
    let answer = app.send(app.tronagg.call("GET", &path)).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["cursor"]);
    app.check_ledger().await;
}
