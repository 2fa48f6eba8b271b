//! A tenant creates, reads, lists and suspends accounts.

use serde_json::json;

use crate::harness::{App, Call, OTHER_WALLET, WALLET};

#[tokio::test]
async fn repeated_put_returns_the_existing_account() {
    let app = App::start().await;
    let put = || app.tronagg.call("PUT", &format!("/v1/accounts/{WALLET}"));
    let created = app.send(put()).await.expect(201);
    assert_eq!(created.json["id"], WALLET);
    assert_eq!(created.json["status"], "active");
    let zero = json!({
        "amount": "0.000000", "held": "0.000000", "available": "0.000000", "currency": "TRX", "decimals": 6,
    });
    assert_eq!(created.json["balance"], zero);
    let repeated = app.send(put().json(json!({}))).await.expect(200);
    assert_eq!(repeated.json, created.json);
    let read = app.send(app.tronagg.call("GET", &format!("/v1/accounts/{WALLET}"))).await;
    assert_eq!(read.expect(200).json, created.json);
}

#[tokio::test]
async fn twenty_concurrent_puts_create_one_account() {
    let app = App::start().await;
    let put = || app.tronagg.call("PUT", &format!("/v1/accounts/{WALLET}"));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (router, call) = (app.router.clone(), put());
        tasks.spawn(async move {
            tower::ServiceExt::oneshot(router, call.into_request())
                .await
                .expect("the router is infallible")
        });
    }
    let statuses: Vec<u16> =
        tasks.join_all().await.iter().map(|response| response.status().as_u16()).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 19, "{statuses:?}");
}

#[tokio::test]
async fn account_id_must_match_the_account_format_of_the_tenant() {
    let app = App::start().await;
    let refused = app.send(app.tronagg.call("PUT", "/v1/accounts/user-1")).await;
    let refused = refused.expect_problem(422, "validation_failed");
    assert_eq!(refused.errors_at(), ["account"]);
    for name in ["user-1", "a%2Fb", "me@example.com", WALLET, &"x".repeat(128)] {
        app.send(app.tradetally.call("PUT", &format!("/v1/accounts/{name}"))).await.expect(201);
    }
    let read = app.send(app.tradetally.call("GET", "/v1/accounts/a%2Fb")).await.expect(200);
    assert_eq!(read.json["id"], "a/b");
    for name in ["%20", "a%20b", "%00", "%C3%A9", "%FF", &"x".repeat(129)] {
        let answer = app.send(app.tradetally.call("PUT", &format!("/v1/accounts/{name}"))).await;
        answer.expect_problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn accounts_are_listed_newest_first_in_pages() {
    let app = App::start().await;
    for number in 0..7 {
        app.account(&app.tradetally, &format!("user-{number}"), "0").await;
    }
    app.wallet("0").await;
    let mut listed = Vec::new();
    let mut path = "/v1/accounts?limit=3".to_owned();
    loop {
        let page = app.send(app.tradetally.call("GET", &path)).await.expect(200);
        assert!(page.data().len() <= 3);
        listed.extend(page.data().iter().map(|account| account["id"].as_str().unwrap().to_owned()));
        match page.json["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/accounts?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    let expected: Vec<String> = (0..7).rev().map(|number| format!("user-{number}")).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn full_last_page_has_no_next_cursor() {
    let app = App::start().await;
    for number in 0..3 {
        app.account(&app.tradetally, &format!("user-{number}"), "0").await;
    }
    let page = app.send(app.tradetally.call("GET", "/v1/accounts?limit=3")).await.expect(200);
    assert_eq!(page.data().len(), 3);
    assert!(page.json["next_cursor"].is_null());
}

#[tokio::test]
async fn keys_of_a_suspended_account_are_refused_until_it_is_reactivated() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    app.account(&app.tronagg, OTHER_WALLET, "10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let other = app.key(&app.tronagg, OTHER_WALLET).await;
    let set_status = |status: &str| {
        let path = format!("/v1/accounts/{wallet}");
        app.send(app.tronagg.call("PATCH", &path).json(json!({"status": status})))
    };
    assert_eq!(set_status("suspended").await.expect(200).json["status"], "suspended");
    app.send(key.call("GET", "/v1/me")).await.expect_problem(403, "account_suspended");
    app.send(key.buy("1")).await.expect_problem(403, "account_suspended");
    app.send(other.call("GET", "/v1/me")).await.expect(200);
    // The tenant can still create keys for a suspended account.
    app.key(&app.tronagg, wallet).await;
    set_status("active").await.expect(200);
    app.send(key.call("GET", "/v1/me")).await.expect(200);
    app.send(key.buy("1")).await.expect(201);
    app.check_ledger().await;
}

#[tokio::test]
async fn account_status_must_be_active_or_suspended() {
    let app = App::start().await;
    let wallet = app.wallet("0").await;
    let path = format!("/v1/accounts/{wallet}");
    for body in [json!({"status": "closed"}), json!({"status": null}), json!({"status": 1})] {
        let answer = app.send(app.tronagg.call("PATCH", &path).json(body)).await;
        assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["/status"]);
    }
    let unchanged = app.send(app.tronagg.call("PATCH", &path).json(json!({}))).await;
    assert_eq!(unchanged.expect(200).json["status"], "active");
    let unknown = app.tronagg.call("PATCH", &format!("/v1/accounts/{OTHER_WALLET}"));
    let answer = app.send(unknown.json(json!({"status": "suspended"}))).await;
    answer.expect_problem(404, "not_found");
}

#[tokio::test]
async fn environment_query_parameter_is_rejected() {
    let app = App::start().await;
    let call = Call::new("GET", "/v1/accounts?environment=test").bearer(&app.tronagg.admin_key);
    let answer = app.send(call).await.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["environment"]);
}
