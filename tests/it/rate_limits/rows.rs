//! The rows of windows in the database.

use serde_json::json;
use tollgate::{
    domain::rate_limit::RateLimit,
    store::{LimitRow, ShareAsk, Store},
};
use uuid::Uuid;

use super::calls::{authorize, limit, limited_key};
use crate::harness::{App, cluster, eventually};

/// Returns the ask of a new limit for one call.
fn ask(app: &App, limit: i32) -> ShareAsk {
    let id = Uuid::from_u128(limit.unsigned_abs().into());
    let name = "default=10/1h".parse::<RateLimit>().expect("a limit").name;
    let tenant = app.tronagg.tenant.id;
    ShareAsk {
        row: LimitRow { tenant, account: id, holder: id, owner: id, name },
        generation: 0,
        calls: 10,
        seconds: 3600,
        wanted: 1,
        least: 1,
        number: None,
        spent: 0,
        returned: 0,
    }
}

/// Creates the windows with the numbers from 1 to `count`, which ended this long ago.
async fn create_windows(app: &App, count: i32, ended_ago: &str) {
    let rows = "INSERT INTO rate_limit_windows (account_id, holder_id, name, number, began_at,
                                                window_seconds, given, spent)
                SELECT id, id, 'default', 1, now() - $2::interval - interval '1 hour', 3600, 1, 1
                FROM generate_series(1, $1) n, LATERAL (SELECT lpad(to_hex(n), 32, '0')::uuid AS id) i";
    sqlx::query(rows)
        .bind(count)
        .bind(ended_ago)
        .execute(&app.pool)
        .await
        .expect("the rows are new");
}

#[tokio::test]
async fn share_statements_use_the_index_although_they_were_planned_when_no_window_existed() {
    const WINDOWS: i32 = 40_000;
    let app = App::start().await;
    // Postgres assumes that a table has a few pages until the first VACUUM.
    let vacuum = sqlx::query("VACUUM rate_limit_windows").execute(&app.pool).await;
    vacuum.expect("the table is vacuumed");
    let store =
        Store::connect(&cluster::pool_settings(&app.url)).await.expect("the database is reachable");
    for _ in 0..2 {
        for limit in 1..=5 {
            let answers = store.share_rate_limits(&[ask(&app, WINDOWS + limit)]).await;
            assert_eq!(answers.expect("Postgres answers").len(), 1);
        }
    }
    create_windows(&app, WINDOWS, "-1 hour").await;
    for first in 1..=10 {
        let asks: Vec<ShareAsk> = (0..30).map(|step| ask(&app, first + step * 10)).collect();
        let answers = store.share_rate_limits(&asks).await.expect("Postgres answers");
        assert_eq!(answers.len(), asks.len());
        assert!(answers.iter().all(|answer| answer.share > 0), "{answers:?}");
    }
    // A session reports all its counts when it ends.
    store.close().await;
    let read = async || {
        let read = "SELECT sum(idx_scan)::bigint, sum(idx_tup_read)::bigint
                    FROM pg_stat_user_indexes WHERE relname = 'rate_limit_windows'";
        let read = sqlx::query_as::<_, (i64, i64)>(read).fetch_one(&app.pool).await;
        read.expect("the query succeeds")
    };
    eventually("the index found each row", async || read().await.0 >= 300).await;
    let (_, rows) = read().await;
    // A node that deletes old rows reads up to 10,000 rows.
    assert!(rows < i64::from(WINDOWS), "the statements read {rows} rows of the index for 300 asks");
}

#[tokio::test]
async fn each_ask_gets_one_answer_although_its_settings_change_during_the_statement() {
    let app = App::start().await;
    let (new, known) = (ask(&app, 1), ask(&app, 2));
    let answers = app.store.share_rate_limits(std::slice::from_ref(&known)).await;
    let number = answers.expect("Postgres answers")[0].number;
    let mut lock = app.pool.begin().await.expect("the transaction begins");
    let rows = sqlx::query("SELECT FROM rate_limit_windows FOR UPDATE").execute(&mut *lock).await;
    assert_eq!(rows.expect("the row is locked").rows_affected(), 1);

    // The statement inserts the row of the first ask, and then waits for the row of the second one.
    let asks = [new.clone(), ShareAsk { number, ..known }];
    let change = async {
        app.wait_until_blocked(1).await;
        let limits = "INSERT INTO tenant_limits (tenant_id, rate_limits) VALUES ($1, '[]')";
        let changed =
            sqlx::query(limits).bind(app.tronagg.tenant.id.uuid()).execute(&app.pool).await;
        changed.expect("the settings are changed");
        lock.commit().await.expect("the lock is released");
    };
    let (answers, ()) = tokio::join!(app.store.share_rate_limits(&asks), change);
    let mut answers = answers.expect("Postgres answers");
    answers.sort_by_key(|answer| answer.account);
    let answers: Vec<_> = answers
        .iter()
        .map(|answer| (answer.account, answer.share, answer.number.is_some()))
        .collect();
    assert_eq!(answers, [(new.row.account, 1, true), (asks[1].row.account, 0, false)]);
}

#[tokio::test]
async fn window_whose_row_was_deleted_begins_again() {
    let app = App::start().await;
    let key = limited_key(&app, json!([limit("default", 2)])).await;
    // A share of this limit is one call, so the node needs the row for each call.
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
        let delete = sqlx::query("DELETE FROM rate_limit_windows").execute(&app.pool).await;
        assert_eq!(delete.expect("the query succeeds").rows_affected(), 1);
    }
    for _ in 0..2 {
        authorize(&app, &key).await.expect(200);
    }
    authorize(&app, &key).await.expect_problem(429, "rate_limited");
}

#[tokio::test]
async fn nodes_delete_windows_that_ended_more_than_an_hour_ago() {
    // A node reads fewer rows at a time.
    const WINDOWS: i32 = 6000;
    let app = App::start().await;
    create_windows(&app, WINDOWS, "61 minutes").await;
    let later = "UPDATE rate_limit_windows SET began_at = began_at + CASE
                     WHEN account_id = $1 THEN interval '10 minutes' ELSE interval '2 hours' END
                 WHERE account_id IN ($1, $2)";
    let kept = [WINDOWS / 2, WINDOWS].map(|limit| ask(&app, limit).row.account);
    let changed = sqlx::query(later).bind(kept[0]).bind(kept[1]).execute(&app.pool).await;
    assert_eq!(changed.expect("the query succeeds").rows_affected(), 2);
    let left = async || {
        let left = "SELECT account_id FROM rate_limit_windows ORDER BY account_id";
        let left = sqlx::query_scalar::<_, Uuid>(left).fetch_all(&app.pool).await;
        left.expect("the query succeeds")
    };
    eventually("the old windows are deleted", async || left().await.len() <= kept.len()).await;
    assert_eq!(left().await, kept);
}
