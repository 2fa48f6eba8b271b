//! Edge cases that the random sequences rarely reach: the exact microsecond at which a day, a month
//! or a hold ends, and the limits of columns.

use serde_json::{Value, json};
use tollgate::{
    domain::{
        account::{AccountFormat, AccountId, ExternalId},
        id::{BatchId, KeyId, PurchaseId, RequestId},
        purchase::NewPurchase,
        text::Metadata,
    },
    store::{Batch, BatchConnection, BatchOutcome, Operation, OperationAction, Refusal},
};
use uuid::Uuid;

use super::{clock, model::units};
use crate::harness::{Answer, App, Call, OTHER_WALLET, WALLET, app::NewKey};

/// Starts an app with an account whose balance is 100 TRX.
async fn start(now: &str) -> App {
    let app = App::start().await;
    clock::stop(&app.pool, clock::at(now)).await;
    app.wallet("100").await;
    app
}

async fn limited_key(app: &App, amount: &str, period: &str) -> NewKey {
    let limit = json!({"amount": amount, "period": period});
    app.key_with(&app.tronagg, WALLET, json!({"name": period, "spend_limit": limit})).await
}

async fn hold(app: &App, key: &NewKey, amount: &str) -> String {
    let body = json!({"amount": amount, "expires_in": 60});
    let held = app.send(key.call("POST", "/v1/holds").json(body)).await.expect(201);
    held.text("/id").to_owned()
}

fn capture(key: &NewKey, hold: &str, body: Value) -> Call {
    key.call("POST", &format!("/v1/holds/{hold}/capture")).json(body)
}

fn void(key: &NewKey, hold: &str) -> Call {
    key.call("POST", &format!("/v1/holds/{hold}/void")).json(json!({}))
}

#[track_caller]
fn expect_over_limit(answer: Answer, available: &str) {
    let answer = answer.expect_problem(402, "spend_limit_exceeded");
    assert_eq!(answer.text("/available"), available);
}

#[tokio::test]
async fn spend_limit_resets_at_midnight_utc_and_not_a_microsecond_earlier() {
    let app = start("2100-02-01T00:00:00Z").await;
    for (period, before, after, is_reset) in [
        // 2100 is not a leap year.
        ("month", "2100-02-28T23:59:59.999999Z", "2100-03-01T00:00:00Z", true),
        ("month", "2100-03-14T23:59:59.999999Z", "2100-03-15T00:00:00Z", false),
        ("day", "2100-03-30T23:59:59.999999Z", "2100-03-31T00:00:00Z", true),
        ("total", "2100-12-31T23:59:59.999999Z", "2101-01-01T00:00:00Z", false),
    ] {
        let key = limited_key(&app, "10", period).await;
        clock::set(&app.pool, clock::at(before)).await;
        app.send(key.buy("6")).await.expect(201);
        expect_over_limit(app.send(key.buy("4.000001")).await, "4.000000");
        app.send(key.buy("4")).await.expect(201);
        expect_over_limit(app.send(key.buy("0.000001")).await, "0.000000");
        clock::set(&app.pool, clock::at(after)).await;
        if is_reset {
            expect_over_limit(app.send(key.buy("10.000001")).await, "10.000000");
            app.send(key.buy("10")).await.expect(201);
        }
        expect_over_limit(app.send(key.buy("0.000001")).await, "0.000000");
    }
    assert_eq!(app.balance(&app.tronagg, WALLET).await, "40.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn spending_of_a_day_still_counts_when_the_clock_is_set_back_into_that_day() {
    let app = start("2100-03-14T23:59:50Z").await;
    let key = app.key(&app.tronagg, WALLET).await;
    app.send(key.buy("6")).await.expect(201);
    clock::set(&app.pool, clock::at("2100-03-15T00:00:05Z")).await;
    let body = json!({"spend_limit": {"amount": "10", "period": "day"}});
    app.send(app.tronagg.call("PATCH", &key.path).json(body)).await.expect(200);
    clock::set(&app.pool, clock::at("2100-03-14T23:59:55Z")).await;
    expect_over_limit(app.send(key.buy("4.000001")).await, "4.000000");
    clock::set(&app.pool, clock::at("2100-03-15T00:00:05Z")).await;
    app.send(key.buy("10")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn captured_hold_counts_toward_the_day_of_its_capture() {
    let app = start("2100-03-14T23:59:59.999999Z").await;
    let key = limited_key(&app, "10", "day").await;
    let held = hold(&app, &key, "7").await;
    expect_over_limit(app.send(key.buy("3.000001")).await, "3.000000");
    clock::set(&app.pool, clock::at("2100-03-15T00:00:00Z")).await;
    expect_over_limit(app.send(key.buy("3.000001")).await, "3.000000");
    app.send(capture(&key, &held, json!({"amount": "5"}))).await.expect(200);
    expect_over_limit(app.send(key.buy("5.000001")).await, "5.000000");
    app.send(key.buy("5")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn hold_can_be_captured_until_a_microsecond_before_it_expires() {
    let app = start("2100-03-14T12:00:00Z").await;
    let key = app.key(&app.tronagg, WALLET).await;
    let (first, second) = (hold(&app, &key, "3").await, hold(&app, &key, "4").await);
    clock::set(&app.pool, clock::at("2100-03-14T12:00:59.999999Z")).await;
    let captured = app.send(capture(&key, &first, json!({}))).await.expect(200);
    assert_eq!(captured.text("/captured"), "3.000000");
    clock::set(&app.pool, clock::at("2100-03-14T12:01:00Z")).await;
    // The API shows the hold as expired before the ledger releases it.
    let shown = app.send(key.call("GET", &format!("/v1/holds/{second}"))).await.expect(200);
    assert_eq!(shown.text("/status"), "expired");
    assert_eq!(shown.text("/closed_at"), "2100-03-14T12:01:00.000000Z");
    let path = format!("/v1/accounts/{WALLET}");
    let account = app.send(app.tronagg.call("GET", &path)).await.expect(200);
    assert_eq!(account.text("/balance/held"), "0.000000");
    for call in [capture(&key, &second, json!({})), void(&key, &second)] {
        let refused = app.send(call).await.expect_problem(409, "hold_not_open");
        assert_eq!(refused.text("/hold_status"), "expired");
    }
    app.send(key.buy("97")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn holds_are_released_when_they_expire_and_not_a_microsecond_earlier() {
    let app = start("2100-03-14T12:00:00Z").await;
    let key = app.key(&app.tronagg, WALLET).await;
    let held = async || -> i64 {
        let held = sqlx::query_scalar("SELECT sum(held)::bigint FROM accounts");
        held.fetch_one(&app.pool).await.expect("a number")
    };
    hold(&app, &key, "3").await;
    clock::set(&app.pool, clock::at("2100-03-14T12:00:59.999999Z")).await;
    assert_eq!(app.store.release_due_holds(10).await.expect("the release succeeds"), 0);
    assert_eq!(held().await, 3_000_000);
    clock::set(&app.pool, clock::at("2100-03-14T12:01:00Z")).await;
    assert_eq!(app.store.release_due_holds(10).await.expect("the release succeeds"), 1);
    assert_eq!(held().await, 0);
    assert_eq!(app.store.release_due_holds(10).await.expect("the release succeeds"), 0);
    app.check_ledger().await;
}

#[tokio::test]
async fn captured_hold_counts_toward_the_limit_of_the_key_that_captures_it() {
    let app = start("2100-03-14T12:00:00Z").await;
    let holder = limited_key(&app, "5", "total").await;
    let buyer = limited_key(&app, "4", "total").await;
    let held = hold(&app, &holder, "5").await;
    expect_over_limit(app.send(holder.buy("0.000001")).await, "0.000000");
    expect_over_limit(app.send(capture(&buyer, &held, json!({}))).await, "4.000000");
    let captured = app.send(capture(&buyer, &held, json!({"amount": "4"}))).await.expect(200);
    assert_eq!(captured.text("/key_id"), holder.id);
    let path = format!("/v1/purchases/{}", captured.text("/purchase_id"));
    let bought = app.send(buyer.call("GET", &path)).await.expect(200);
    assert_eq!(bought.text("/key_id"), buyer.id);
    expect_over_limit(app.send(buyer.buy("0.000001")).await, "0.000000");
    // The key that placed the hold has not spent anything.
    app.send(holder.buy("5")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn successor_key_inherits_the_spending_and_holds_of_its_predecessor() {
    let app = start("2100-03-14T12:00:00Z").await;
    let old = limited_key(&app, "10", "total").await;
    app.send(old.buy("6")).await.expect(201);
    let held = hold(&app, &old, "3").await;
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", old.path)).json(json!({}));
    let rotated = app.send(rotate).await.expect(201);
    let new = NewKey {
        text: rotated.text("/key").to_owned(),
        id: rotated.text("/id").to_owned(),
        path: format!("/v1/accounts/{WALLET}/keys/{}", rotated.text("/id")),
    };
    expect_over_limit(app.send(new.buy("1.000001")).await, "1.000000");
    // The held amount already counts toward the limit. So the key can capture the hold, although
    // the remaining limit is lower.
    app.send(capture(&new, &held, json!({}))).await.expect(200);
    expect_over_limit(app.send(new.buy("1.000001")).await, "1.000000");
    app.send(new.buy("1")).await.expect(201);
    let body = json!({"spend_limit": {"amount": "12", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &new.path).json(body)).await.expect(200);
    expect_over_limit(app.send(new.buy("2.000001")).await, "2.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn spending_of_a_key_in_a_month_can_exceed_the_maximum_balance() {
    let app = App::start().await;
    let all = "9223372036854.775807";
    let wallet = app.wallet("0").await;
    let key = app.key(&app.tronagg, wallet).await;
    for number in 1..=3 {
        let credit = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/credits"));
        let credit = credit.idempotency_key(&number.to_string()).json(json!({"amount": all}));
        app.send(credit).await.expect(201);
        app.send(key.buy(all)).await.expect(201);
    }
    // The spending far exceeds a limit that is set later. Other keys can still make purchases.
    let body = json!({"spend_limit": {"amount": "0.000001", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &key.path).json(body)).await.expect(200);
    let credit = app.tronagg.call("POST", &format!("/v1/accounts/{wallet}/credits"));
    let credit = credit.idempotency_key("last").json(json!({"amount": "1"}));
    app.send(credit).await.expect(201);
    expect_over_limit(app.send(key.buy("0.000001")).await, "0.000000");
    app.send(app.key(&app.tronagg, wallet).await.buy("1")).await.expect(201);
    app.check_ledger().await;
}

/// Builds a purchase of one minor unit.
fn purchase(app: &App, number: u128, account: &str, key: &NewKey) -> Operation {
    let account = ExternalId::parse(account, AccountFormat::Tron).expect("an address");
    Operation {
        account_id: AccountId::derive(app.tronagg.tenant.id, &account),
        key_id: key.id.parse::<KeyId>().expect("an id"),
        request_id: RequestId::from_uuid(Uuid::from_u128(number)),
        action: OperationAction::Purchase {
            id: PurchaseId::from_uuid(Uuid::from_u128(number)),
            purchase: NewPurchase {
                amount: units(1),
                reference: None,
                description: None,
                metadata: Metadata::default(),
            },
            idempotency_key: None,
        },
    }
}

#[tokio::test]
async fn key_of_another_account_buys_nothing_and_does_not_affect_its_batch() {
    let app = start("2100-03-14T12:00:00Z").await;
    app.account(&app.tronagg, OTHER_WALLET, "100").await;
    let key = app.key(&app.tronagg, WALLET).await;
    let foreign = app.key(&app.tronagg, OTHER_WALLET).await;
    let batches: [&[(&str, &NewKey)]; 4] = [
        &[(WALLET, &foreign)],
        &[(WALLET, &key), (WALLET, &foreign)],
        &[(WALLET, &foreign), (OTHER_WALLET, &foreign)],
        &[(WALLET, &key), (WALLET, &foreign), (OTHER_WALLET, &foreign)],
    ];
    let mut connection = BatchConnection::default();
    let mut number = 0;
    for planned in batches {
        let mut operations = Vec::new();
        for (account, key) in planned {
            number += 1;
            operations.push(purchase(&app, number, account, key));
        }
        let id = BatchId::from_uuid(Uuid::from_u128(number));
        let batch = Batch { id, attempt: 1, wait: false, operations };
        let outcomes = app.store.apply(&mut connection, &batch).await;
        for (outcome, (account, key)) in outcomes.expect("outcomes").iter().zip(planned) {
            if *account == WALLET && key.id == foreign.id {
                assert_eq!(*outcome, BatchOutcome::Refused(Refusal::NotFound));
            } else {
                assert!(matches!(outcome, BatchOutcome::Done(_)), "{outcome:?}");
            }
        }
    }
    app.check_ledger().await;
}
