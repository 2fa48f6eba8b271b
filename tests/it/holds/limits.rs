//! The number of open holds of a key and of an account is limited.

use serde_json::json;
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

use super::calls::{hold, revoke, void};
use crate::harness::{App, app::NewKey};

/// Adds copies of the account's hold. The copies belong to the key `holder`.
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
    tx.commit().await.expect("the commit succeeds");
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
    lock.commit().await.expect("the commit succeeds");
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
                amount: Amount::from_minor_units(1).expect("the amount is positive"),
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
    // The limit does not apply to the replay of an earlier hold.
    app.send(hold(&key, "1").idempotency_key("last")).await.expect(201);
    app.send(void(&key, &id)).await.expect(200);
    app.send(hold(&key, "1")).await.expect(201);
    app.check_ledger().await;
}
