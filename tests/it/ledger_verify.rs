//! `tollgate ledger verify` finds each kind of fault and names it.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::harness::{App, OTHER_WALLET, WALLET, process::tollgate};

/// Runs the command. Returns whether it succeeded, and what it printed.
fn verify(app: &App, arguments: &[&str]) -> (bool, String) {
    let output = tollgate(&["ledger", "verify"])
        .args(arguments)
        .args(["--database-url", &app.url])
        .output()
        .expect("the program runs");
    let stdout = String::from_utf8(output.stdout).expect("text");
    let stderr = String::from_utf8(output.stderr).expect("text");
    // No progress line, because the output is not a terminal.
    assert!(!stdout.contains('\r') && !stderr.contains('\r'), "{stdout}{stderr}");
    (output.status.success(), stdout + &stderr)
}

/// A ledger with entries of every kind: credits, purchases, declines, refunds, holds and captures.
async fn busy_account() -> App {
    let app = App::start().await;
    let wallet = app.wallet("100").await;
    let key = app.key(&app.tronagg, wallet).await;
    let bought = app.send(key.buy("10").idempotency_key("k")).await.expect(201);
    app.send(key.buy("1000").idempotency_key("big")).await.expect(402);
    app.send(key.buy("5")).await.expect(201);
    let refund = format!("/v1/accounts/{wallet}/purchases/{}/refunds", bought.text("/id"));
    let refund = app.tronagg.call("POST", &refund).idempotency_key("r");
    app.send(refund.json(json!({"amount": "3"}))).await.expect(201);
    let hold = |amount: &str| key.call("POST", "/v1/holds").json(json!({"amount": amount}));
    app.send(hold("7").idempotency_key("h")).await.expect(201);
    let to_capture = app.send(hold("2")).await.expect(201);
    let capture = format!("/v1/holds/{}/capture", to_capture.text("/id"));
    app.send(key.call("POST", &capture).json(json!({"amount": "1"}))).await.expect(200);
    // The limit creates the spend counter of the key, which includes its earlier purchases.
    let limit = json!({"spend_limit": {"amount": "1000", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &key.path).json(limit)).await.expect(200);
    app.account(&app.tronagg, OTHER_WALLET, "1").await;
    app
}

/// Changes rows that the schema protects.
async fn tamper(app: &App, statement: &str) {
    let mut connection = app.pool.acquire().await.expect("a connection");
    // In this role Postgres runs no triggers and checks no foreign keys.
    let statement = format!("SET session_replication_role = replica; {statement}");
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut *connection)
        .await
        .expect("the rows are changed");
    connection.close().await.expect("the connection is closed");
}

#[tokio::test]
async fn ledger_verify_reports_a_ledger_without_faults() {
    let app = busy_account().await;
    let (succeeded, output) = verify(&app, &[]);
    assert!(succeeded && output.contains("2 accounts, 6 entries: no fault"), "{output}");
    let (succeeded, output) = verify(&app, &["--tenant", "tronagg", "--account", OTHER_WALLET]);
    assert!(succeeded && output.contains("1 accounts, 1 entries: no fault"), "{output}");
    let (succeeded, output) = verify(&app, &["--tenant", "tronagg", "--account", "nobody"]);
    assert!(!succeeded && output.contains("nobody") | output.contains("address"), "{output}");
    let (succeeded, output) = verify(&app, &["--account", WALLET]);
    assert!(!succeeded && output.contains("--tenant"), "{output}");
}

#[tokio::test]
async fn ledger_verify_finds_and_names_each_fault() {
    for (change, fault) in [
        ("DELETE FROM ledger_entries WHERE seq = 3", "entry 4 comes after entry 2"),
        (
            "UPDATE ledger_entries SET balance_after = balance_after + 1 WHERE seq = 2",
            "entry 2: 100000000 and -10000000 is not its balance_after 90000001",
        ),
        (
            "UPDATE ledger_entries SET created_at = created_at - interval '1 day' WHERE seq = 4",
            "entry 4 is earlier than the one before it",
        ),
        (
            "UPDATE ledger_entries SET amount = amount - 1, balance_after = balance_after - 1
             WHERE seq = 3",
            "entry 3 has no purchase that says the same",
        ),
        ("UPDATE credits SET amount = amount + 1", "entry 1 has no credit that says the same"),
        ("DELETE FROM refunds", "entry 4 has no refund that says the same"),
        ("UPDATE accounts SET balance = balance + 1 WHERE held > 0", "balance 87000001 at seq 5"),
        ("UPDATE accounts SET last_seq = 9 WHERE held > 0", "balance 87000000 at seq 9"),
        (
            "UPDATE accounts SET last_entry_at = NULL WHERE held > 0",
            "last_entry_at is not that of its newest entry",
        ),
        (
            "UPDATE accounts SET held = held - 1 WHERE held > 0",
            "held is 6999999, but the open holds sum to 7000000",
        ),
        (
            "UPDATE holds SET status = 'voided', closed_at = now(), closed_by = key_id,
                              closed_for = key_id, void_reason = 'api_key'
             WHERE status = 'open'",
            "held is 7000000, but the open holds sum to 0",
        ),
        (
            "INSERT INTO purchases SELECT account_id, gen_random_uuid(), 3, key_id, 1, NULL, NULL,
                                          '{}', now(), NULL FROM purchases LIMIT 1",
            "has no entry at seq 3",
        ),
        (
            "INSERT INTO credits SELECT account_id, gen_random_uuid(), 77, NULL, 1, NULL, now()
             FROM accounts WHERE held > 0",
            "has no entry at seq 77",
        ),
        ("UPDATE refunds SET amount = 11000000", "refunds of 11000000 for purchase"),
        ("UPDATE purchases SET hold_id = NULL", "was captured, but its purchase does not match"),
        ("UPDATE holds SET purchase_id = hold_id WHERE status = 'captured'", "its purchase does not match"),
        (
            "UPDATE purchases SET hold_id = (SELECT hold_id FROM holds WHERE status = 'open')
             WHERE hold_id IS NULL",
            "names a hold that was not captured for it",
        ),
        (
            "UPDATE idempotency_records SET cause_id = gen_random_uuid() WHERE operation = 'purchase'
             AND cause_id IS NOT NULL",
            "idempotency key k of a purchase names a result that does not exist",
        ),
        (
            "UPDATE idempotency_records SET cause_id = gen_random_uuid() WHERE operation = 'hold'",
            "idempotency key h of a hold names a result that does not exist",
        ),
        (
            "UPDATE idempotency_records SET available = available + 1 WHERE cause_id IS NULL",
            "idempotency key big of a purchase was declined for 1000000000 with 90000001",
        ),
        (
            "UPDATE spend_counters SET total_spent = total_spent + 1",
            "has spent 16000000, but 16000001 is counted",
        ),
        ("DELETE FROM spend_counters", "has a spend limit but no spend counter"),
        ("DELETE FROM api_keys", "which the account does not have"),
        ("DELETE FROM accounts WHERE held > 0", "is of no account"),
    ] {
        let app = busy_account().await;
        tamper(&app, change).await;
        let (succeeded, output) = verify(&app, &[]);
        assert!(!succeeded, "{change} is not found:\n{output}");
        assert!(output.contains(fault), "{fault} is not reported after {change}:\n{output}");
        assert!(output.contains(WALLET) || change.contains("FROM accounts"), "{output}");
        let names_other = output.lines().any(|line| line.contains(OTHER_WALLET));
        assert!(!names_other || change.starts_with("UPDATE credits"), "{output}");
    }
}
