//! Concurrent requests close a hold exactly once, whatever their order.

use serde_json::json;

use super::calls::{capture, find, held_and_available, hold, void};
use crate::harness::{App, Call};

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
        // Both requests wait for the account's lock. In every fourth round, the hold expires
        // meanwhile.
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
        lock.commit().await.expect("the commit succeeds");
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
async fn capture_and_concurrent_revocation_of_the_holder_close_a_hold_once() {
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
        // In every second round, the backend sends the revocation first.
        let lock = app.lock_accounts().await;
        let mut requests = [None, None];
        for (number, which) in [round % 2, (round + 1) % 2].into_iter().enumerate() {
            let request = calls[which].clone().into_request();
            let node = nodes[(round / 2 + which) % 2].clone();
            requests[which] = Some(tokio::spawn(tower::ServiceExt::oneshot(node, request)));
            app.wait_until_blocked(i64::try_from(number + 1).expect("at most two")).await;
        }
        lock.commit().await.expect("the commit succeeds");
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
