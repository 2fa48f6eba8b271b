//! The schema holds the invariants by itself: what the program would never do, done by hand.

use sqlx::{AssertSqlSafe, postgres::PgListener};
use time::OffsetDateTime;
use tollgate::domain::{
    account::AccountStatus,
    timestamp::Timestamp,
    verification::{Denial, KeyState},
};
use uuid::Uuid;

use crate::harness::App;

/// What a statement is refused by: the name of a constraint, or the message.
async fn refusal(app: &App, statement: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(&app.pool)
        .await
        .expect_err(statement);
    let error = error.as_database_error().expect("the database refused it");
    error.constraint().unwrap_or_else(|| error.message()).to_owned()
}

#[tokio::test]
async fn what_is_written_down_stays() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.buy("1").idempotency_key("k")).await.expect(201);
    for table in ["ledger_entries", "purchases", "credits", "idempotency_records", "audit_events"] {
        for statement in [
            format!("UPDATE {table} SET created_at = now()"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            let refused = refusal(&app, &statement).await;
            assert!(refused.ends_with("_append_only"), "{statement}: {refused}");
        }
    }
    assert_eq!(refusal(&app, "UPDATE tenants SET max_keys = 9").await, "tenants_append_only");
    assert_eq!(refusal(&app, "DELETE FROM tenants").await, "tenants_append_only");
    for table in ["api_keys", "admin_keys", "accounts"] {
        let refused = refusal(&app, &format!("DELETE FROM {table}")).await;
        assert_eq!(refused, format!("{table}_append_only"));
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn a_balance_is_never_negative_and_the_ledger_is_signed() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    app.send(key.buy("1")).await.expect(201);
    let negative = "UPDATE accounts SET balance = -1 WHERE last_seq > 0";
    assert_eq!(refusal(&app, negative).await, "accounts_balance_not_negative");
    let insert = |seq: i64, kind: &str, amount: i64, after: i64, key: &str| {
        format!(
            "INSERT INTO ledger_entries SELECT account_id, {seq}, '{kind}', {amount}, {after},
             key_id, {key}, NULL, now() FROM api_keys"
        )
    };
    for (statement, constraint) in [
        (insert(3, "purchase", 1, 10, "key_id"), "ledger_entries_sign"),
        (insert(3, "credit", -1, 10, "NULL"), "ledger_entries_sign"),
        (insert(3, "credit", 9, 8, "NULL"), "ledger_entries_balance_before"),
        (insert(3, "credit", 9, 9, "key_id"), "ledger_entries_maker"),
        (insert(3, "purchase", -1, 1, "NULL"), "ledger_entries_maker"),
        (insert(3, "purchase", -1, -1, "key_id"), "ledger_entries_balance_after_check"),
        (insert(0, "credit", 1, 1, "NULL"), "ledger_entries_seq_check"),
        (insert(2, "credit", 1, 1, "NULL"), "ledger_entries_pkey"),
    ] {
        assert_eq!(refusal(&app, &statement).await, constraint);
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn a_dead_key_stays_dead() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    let identity = "UPDATE api_keys SET key_hash = sha256('x')";
    assert_eq!(refusal(&app, identity).await, "api_keys_identity");
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", key.path));
    app.send(rotate.json(serde_json::json!({"grace_seconds": 60}))).await.expect(201);
    let longer = "UPDATE api_keys SET expires_at = expires_at + interval '1 hour'
                  WHERE rotated_to IS NOT NULL";
    assert_eq!(refusal(&app, longer).await, "api_keys_rotated_once");
    let revoke = app.tronagg.call("POST", &format!("{}/revoke", key.path));
    app.send(revoke).await.expect(200);
    let revive = "UPDATE api_keys SET revoked_at = NULL WHERE revoked_at IS NOT NULL";
    assert_eq!(refusal(&app, revive).await, "api_keys_dead_stays_dead");
    let admin = "UPDATE admin_keys SET permissions = '{keys}' WHERE permissions <> '{keys}'";
    assert_eq!(refusal(&app, admin).await, "admin_keys_dead_stays_dead");
}

#[tokio::test]
async fn no_prefix_begins_with_another() {
    let app = App::start().await;
    let insert = |slug: &str, prefix: &str| {
        format!(
            "INSERT INTO tenants VALUES (gen_random_uuid(), '{slug}', 'test', '{prefix}', 5, 'TRX',
             6, 'any', '{{read}}', now())"
        )
    };
    for prefix in ["ta_", "ta_x_", "tt_", "tt_live_x_"] {
        assert_eq!(refusal(&app, &insert("other", prefix)).await, "tenants_prefix", "{prefix}");
    }
    for prefix in ["tg_", "tg_admin_", "tg_admin_x_"] {
        let refused = refusal(&app, &insert("other", prefix)).await;
        assert_eq!(refused, "tenants_prefix_reserved", "{prefix}");
    }
    for prefix in ["Zz_", "zz", "_", "zz__"] {
        let refused = refusal(&app, &insert("other", prefix)).await;
        assert_eq!(refused, "tenants_prefix_grammar", "{prefix}");
    }
    // At once: the second waits for the first, and sees it.
    let mut first = app.pool.begin().await.expect("a transaction");
    sqlx::query(AssertSqlSafe(insert("a", "new_"))).execute(&mut *first).await.expect("inserted");
    let pool = app.pool.clone();
    let statement = insert("b", "new_x_");
    let second =
        tokio::spawn(async move { sqlx::query(AssertSqlSafe(statement)).execute(&pool).await });
    first.commit().await.expect("the commit");
    let error = second.await.expect("no panic").expect_err("it collides");
    let error = error.as_database_error().expect("the database refused it");
    assert_eq!(error.constraint(), Some("tenants_prefix"));
}

#[tokio::test]
async fn key_denial_and_the_domain_judge_every_key_alike() {
    let app = App::start().await;
    let at = |second: i64| Timestamp::from_unix_micros(second * 1_000_000).expect("in range");
    let now = at(10);
    for revoked_at in [None, Some(at(5)), Some(at(15))] {
        for expires_at in [None, Some(at(9)), Some(now), Some(at(11))] {
            for enabled in [true, false] {
                for account in [AccountStatus::Active, AccountStatus::Suspended] {
                    let state = KeyState { revoked_at, expires_at, enabled, account };
                    let (denial, live): (Option<String>, bool) = sqlx::query_as(
                        "SELECT key_denial($1, $2, $3, $4, $5), key_is_live($1, $2, $5)",
                    )
                    .bind(revoked_at.map(OffsetDateTime::from))
                    .bind(expires_at.map(OffsetDateTime::from))
                    .bind(enabled)
                    .bind(account.as_str())
                    .bind(OffsetDateTime::from(now))
                    .fetch_one(&app.pool)
                    .await
                    .expect("a verdict");
                    let judged = state.judge(now).err().map(Denial::as_str);
                    assert_eq!(denial.as_deref(), judged, "{state:?}");
                    let dead = matches!(judged, Some("revoked" | "expired"));
                    assert_eq!(live, !dead, "{state:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn change_of_many_keys_is_announced_in_parts_and_the_last_one_asks_for_acknowledgement() {
    let app = App::start().await;
    let mut listener = PgListener::connect_with(&app.pool).await.expect("a connection");
    listener.listen("tollgate_changes").await.expect("it listens");
    let node = Uuid::from_u128(7);
    let tags: Vec<String> = (1..=801).map(|tag| format!("{tag:016x}")).collect();
    for (node, tags) in [(Some(node), &tags[..]), (None, &tags[..1]), (Some(node), &tags[..0])] {
        sqlx::query("SELECT FROM announce_key_change($1, 9, $2)")
            .bind(node)
            .bind(tags)
            .execute(&app.pool)
            .await
            .expect("it is announced");
    }
    let node = node.simple();
    let nobody = Uuid::nil().simple();
    for payload in [
        format!("{node} 0 {}", tags[..400].join(",")),
        format!("{node} 0 {}", tags[400..800].join(",")),
        format!("{node} 9 {}", tags[800]),
        format!("{nobody} 0 {}", tags[0]),
    ] {
        let heard = listener.recv().await.expect("a notification");
        assert_eq!(heard.payload(), payload);
    }
}

#[tokio::test]
async fn every_table_of_an_account_is_keyed_by_it() {
    let app = App::start().await;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .expect("tables");
    let not_an_accounts = [
        "_sqlx_migrations",
        "admin_keys",
        "nodes",
        "dashboard_settings",
        "dashboard_sign_ins",
        "sql_functions",
        "tenants",
    ];
    for (table, first_column) in tables {
        if !not_an_accounts.contains(&table.as_str()) {
            assert_eq!(first_column, "account_id", "{table}");
        }
    }
}
