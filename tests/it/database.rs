//! The schema enforces invariants even against SQL statements that the program never runs.

use proptest::{option, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use sqlx::{AssertSqlSafe, postgres::PgListener};
use time::OffsetDateTime;
use tollgate::{
    domain::{
        account::AccountStatus,
        scope::{Scope, ScopeSet},
        tenant::TenantStatus,
        timestamp::Timestamp,
        verification::{Denial, KeyState},
    },
    store::COMPOSITES,
};
use uuid::Uuid;

use crate::harness::App;

/// Runs a statement that the database must refuse. Returns the name of the violated constraint, or
/// the error message.
async fn refusal(app: &App, statement: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(&app.pool)
        .await
        .expect_err(statement);
    let error = error.as_database_error().expect("the database refuses the statement");
    error.constraint().unwrap_or_else(|| error.message()).to_owned()
}

#[tokio::test]
async fn recorded_history_cannot_be_updated_or_deleted() {
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
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT attname::text FROM pg_attribute
         WHERE attrelid = 'tenants'::regclass AND attnum > 0 AND NOT attisdropped
           AND attname <> 'status'",
    )
    .fetch_all(&app.pool)
    .await
    .expect("the query succeeds");
    assert!(columns.len() >= 10, "{columns:?}");
    for column in columns {
        let statement = format!("UPDATE tenants SET {column} = {column}");
        assert_eq!(refusal(&app, &statement).await, "tenants_append_only", "{column}");
    }
    assert_eq!(refusal(&app, "DELETE FROM tenants").await, "tenants_append_only");
    for table in ["api_keys", "admin_keys", "accounts"] {
        let refused = refusal(&app, &format!("DELETE FROM {table}")).await;
        assert_eq!(refused, format!("{table}_append_only"));
    }
    app.check_ledger().await;
}

#[tokio::test]
async fn negative_balances_and_inconsistent_ledger_entries_are_refused() {
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
async fn revoked_key_cannot_be_restored_and_the_identity_of_a_key_cannot_change() {
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
async fn overlapping_reserved_and_malformed_key_prefixes_are_refused() {
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
    // The inserts are concurrent. The second insert waits for the first, and then sees its row.
    let mut first = app.pool.begin().await.expect("the transaction begins");
    sqlx::query(AssertSqlSafe(insert("a", "new_")))
        .execute(&mut *first)
        .await
        .expect("the row is inserted");
    let pool = app.pool.clone();
    let statement = insert("b", "new_x_");
    let second =
        tokio::spawn(async move { sqlx::query(AssertSqlSafe(statement)).execute(&pool).await });
    first.commit().await.expect("the transaction commits");
    let error = second.await.expect("the task does not panic").expect_err("the prefixes overlap");
    let error = error.as_database_error().expect("the database refuses the statement");
    assert_eq!(error.constraint(), Some("tenants_prefix"));
}

/// Generates the state of a key and its account, the scopes, and the current time. All times are
/// within a few seconds of each other, so that equal times are frequent.
fn random_key() -> impl Strategy<Value = (KeyState, ScopeSet, Timestamp)> {
    let at = |second: i64| {
        Timestamp::from_unix_micros(second * 1_000_000).expect("the time is in range")
    };
    let moment = move || (0_i64..6).prop_map(at);
    let account = prop_oneof![Just(AccountStatus::Active), Just(AccountStatus::Suspended)];
    let tenant = prop_oneof![2 => Just(TenantStatus::Active), 1 => Just(TenantStatus::Suspended)];
    let scope = prop_oneof![
        Just("read"),
        Just("write"),
        Just("purchases:read"),
        Just("purchases:write"),
        Just("orders:write"),
    ];
    let scopes = proptest::collection::btree_set(scope, 1..4);
    let (revoked_at, expires_at) = (option::of(moment()), option::of(moment()));
    (revoked_at, expires_at, any::<bool>(), tenant, account, scopes, moment()).prop_map(
        |(revoked_at, expires_at, enabled, tenant, account, scopes, now)| {
            let state = KeyState { revoked_at, expires_at, enabled, tenant, account };
            (state, ScopeSet::parse(scopes).expect("the scopes are valid"), now)
        },
    )
}

#[tokio::test]
async fn sql_and_rust_key_rules_agree_on_random_keys() {
    const KEYS: usize = 3000;
    let app = App::start().await;
    let mut runner = TestRunner::default();
    let keys: Vec<_> = (0..KEYS)
        .map(|_| {
            random_key().new_tree(&mut runner).expect("the strategy generates a value").current()
        })
        .collect();
    let time = |moment: Timestamp| OffsetDateTime::from(moment);
    let needed = Scope::purchases_write();
    let implied_by: Vec<String> = needed.implied_by().iter().map(ToString::to_string).collect();
    let judged: Vec<(Option<String>, bool, bool)> = sqlx::query_as(
        "SELECT key_denial(revoked_at, expires_at, enabled, status, now, tenant_status),
                key_is_live(revoked_at, expires_at, now),
                string_to_array(scopes, ' ') && $7
         FROM unnest($1::timestamptz[], $2::timestamptz[], $3::boolean[], $4::text[], $5::text[],
                     $6::timestamptz[], $8::text[]) WITH ORDINALITY
              AS k (revoked_at, expires_at, enabled, status, scopes, now, tenant_status, place)
         ORDER BY place",
    )
    .bind(keys.iter().map(|(key, _, _)| key.revoked_at.map(time)).collect::<Vec<_>>())
    .bind(keys.iter().map(|(key, _, _)| key.expires_at.map(time)).collect::<Vec<_>>())
    .bind(keys.iter().map(|(key, _, _)| key.enabled).collect::<Vec<_>>())
    .bind(keys.iter().map(|(key, _, _)| key.account.as_str()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, scopes, _)| scopes.to_string()).collect::<Vec<_>>())
    .bind(keys.iter().map(|(_, _, now)| time(*now)).collect::<Vec<_>>())
    .bind(implied_by)
    .bind(keys.iter().map(|(key, _, _)| key.tenant.as_str()).collect::<Vec<_>>())
    .fetch_all(&app.pool)
    .await
    .expect("the query succeeds");
    assert_eq!(judged.len(), KEYS);
    let mut passed = 0;
    for ((key, scopes, now), (denial, is_live, may_buy)) in keys.iter().zip(judged) {
        let verdict = key.judge(*now);
        assert_eq!(denial.as_deref(), verdict.err().map(Denial::as_str), "{key:?} at {now}");
        let is_dead = matches!(verdict, Err(Denial::Revoked | Denial::Expired));
        assert_eq!(is_live, !is_dead, "{key:?} at {now}");
        assert_eq!(may_buy, scopes.allows(&needed), "{scopes}");
        passed += usize::from(verdict.is_ok());
    }
    assert!(
        (100..KEYS).contains(&passed),
        "expected some keys to be accepted and some to be refused; {passed} of {KEYS} are accepted"
    );
}

#[tokio::test]
async fn composite_types_in_the_database_match_the_encoded_members() {
    let app = App::start().await;
    for (name, members) in COMPOSITES {
        let in_catalogue: Vec<(String, String)> = sqlx::query_as(
            "SELECT attname::text, format_type(atttypid, NULL)
             FROM pg_attribute
             WHERE attrelid = (SELECT typrelid FROM pg_type WHERE typname = $1) AND NOT attisdropped
             ORDER BY attnum",
        )
        .bind(name)
        .fetch_all(&app.pool)
        .await
        .expect("the query succeeds");
        let in_catalogue: Vec<(&str, &str)> =
            in_catalogue.iter().map(|(member, sql)| (member.as_str(), sql.as_str())).collect();
        assert_eq!(in_catalogue, members, "{name}");
    }
}

#[tokio::test]
async fn large_change_is_announced_in_parts_and_only_the_last_part_needs_acknowledgements() {
    let app = App::start().await;
    let mut listener = PgListener::connect_with(&app.pool).await.expect("the connection opens");
    listener.listen("tollgate_changes").await.expect("the listener subscribes");
    let (node, tenant) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let tags: Vec<String> = (1..=801).map(|tag| format!("{tag:016x}")).collect();
    for (node, tags) in [(Some(node), &tags[..]), (None, &tags[..1]), (Some(node), &tags[..0])] {
        sqlx::query("SELECT FROM announce_change('keys', $1, 9, $2, $3)")
            .bind(node)
            .bind(tenant)
            .bind(tags)
            .execute(&app.pool)
            .await
            .expect("the change is announced");
    }
    let (node, tenant) = (node.simple(), tenant.simple());
    let nobody = Uuid::nil().simple();
    for payload in [
        format!("keys {node} 0 {tenant} {}", tags[..400].join(",")),
        format!("keys {node} 0 {tenant} {}", tags[400..800].join(",")),
        format!("keys {node} 9 {tenant} {}", tags[800]),
        format!("keys {nobody} 0 {tenant} {}", tags[0]),
        format!("keys {node} 9 {tenant}"),
    ] {
        let notification = listener.recv().await.expect("a notification arrives");
        assert_eq!(notification.payload(), payload);
    }
}

#[tokio::test]
async fn account_tables_have_account_id_first_in_their_primary_key() {
    let app = App::start().await;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .expect("the query succeeds");
    let tables_without_an_account = [
        "_sqlx_migrations",
        "admin_keys",
        "nodes",
        "plans",
        "dashboard_settings",
        "dashboard_sign_ins",
        "sql_functions",
        "tenant_limits",
        "tenants",
    ];
    for (table, first_column) in tables {
        if !tables_without_an_account.contains(&table.as_str()) {
            assert_eq!(first_column, "account_id", "{table}");
        }
    }
}
