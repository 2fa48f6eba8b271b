//! `tollgate ledger verify` finds and names each kind of fault. With `--since` it also finds each
//! lost entry.

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::harness::{App, OTHER_WALLET, WALLET, cluster, process::tollgate};

/// Runs the command on the database of `app`. Returns whether it succeeded, and its output.
fn verify(app: &App, arguments: &[&str]) -> (bool, String) {
    verify_at(&app.url, arguments)
}

/// Runs the command on the database with this URL.
pub fn verify_at(url: &str, arguments: &[&str]) -> (bool, String) {
    let output = tollgate(&["ledger", "verify"])
        .args(arguments)
        .args(["--database-url", url])
        .output()
        .expect("the program runs");
    let stdout = String::from_utf8(output.stdout).expect("the text is UTF-8");
    let stderr = String::from_utf8(output.stderr).expect("the text is UTF-8");
    // The command prints no progress line, because its output is not a terminal.
    assert!(!stdout.contains('\r') && !stderr.contains('\r'), "{stdout}{stderr}");
    (output.status.success(), stdout + &stderr)
}

/// Runs `tollgate ledger head`. Returns its output.
pub fn head_at(url: &str) -> String {
    let output = tollgate(&["ledger", "head", "--database-url", url]).output();
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the text is UTF-8")
}

/// Writes the lines to a file. Returns its path. The caller removes the file.
pub fn head_file(name: &str, lines: &str) -> String {
    let path = cluster::directory(&format!("{name}.heads"));
    std::fs::write(&path, lines).expect("the file is written");
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// Starts a service whose ledger contains operations of every kind: credits, purchases, declines,
/// refunds, holds and captures.
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
    // The limit creates the spend counter of the key. The counter includes earlier purchases.
    let limit = json!({"spend_limit": {"amount": "1000", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &key.path).json(limit)).await.expect(200);
    app.account(&app.tronagg, OTHER_WALLET, "1").await;
    app
}

/// Runs a statement on rows that triggers and foreign keys protect.
async fn tamper(app: &App, statement: &str) {
    let mut connection = app.pool.acquire().await.expect("the connection opens");
    // In this mode, Postgres runs no triggers and checks no foreign keys.
    let statement = format!("SET session_replication_role = replica; {statement}");
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut *connection)
        .await
        .expect("the rows are changed");
    connection.close().await.expect("the connection is closed");
}

#[tokio::test]
async fn ledger_verify_succeeds_for_a_ledger_without_faults() {
    let app = busy_account().await;
    let (succeeded, output) = verify(&app, &[]);
    assert!(succeeded && output.contains("2 accounts, 6 entries: no fault"), "{output}");
    let (succeeded, output) = verify(&app, &["--tenant", "tronagg", "--account", OTHER_WALLET]);
    assert!(succeeded && output.contains("1 account, 1 entry: no fault"), "{output}");
    let (succeeded, output) = verify(&app, &["--tenant", "tronagg", "--account", "nobody"]);
    assert!(!succeeded && output.contains("nobody") | output.contains("address"), "{output}");
    let (succeeded, output) = verify(&app, &["--account", WALLET]);
    assert!(!succeeded && output.contains("--tenant"), "{output}");
}

#[tokio::test]
async fn ledger_verify_finds_and_names_each_fault() {
    for (change, fault) in [
        ("DELETE FROM ledger_entries WHERE seq = 3", "entry 4 follows entry 2"),
        (
            "UPDATE ledger_entries SET balance_after = balance_after + 1 WHERE seq = 2",
            "entry 2: 100000000 plus -10000000 is not its balance_after 90000001",
        ),
        (
            "UPDATE ledger_entries SET created_at = created_at - interval '1 day' WHERE seq = 4",
            "entry 4 has an earlier time than the previous entry",
        ),
        (
            "UPDATE ledger_entries SET amount = amount - 1, balance_after = balance_after - 1
             WHERE seq = 3",
            "entry 3 has no matching purchase",
        ),
        ("UPDATE credits SET amount = amount + 1", "entry 1 has no matching credit"),
        ("DELETE FROM refunds", "entry 4 has no matching refund"),
        ("UPDATE accounts SET balance = balance + 1 WHERE held > 0", "balance 87000001 at seq 5"),
        ("UPDATE accounts SET last_seq = 9 WHERE held > 0", "balance 87000000 at seq 9"),
        (
            "UPDATE accounts SET last_entry_at = NULL WHERE held > 0",
            "last_entry_at is not the time of the newest entry",
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
        ("DELETE FROM accounts WHERE held > 0", "has no account"),
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

#[tokio::test]
async fn ledger_head_prints_the_newest_entry_of_each_account() {
    let app = busy_account().await;
    // This account id contains characters that a CSV file would have to quote.
    let odd = "a,\"b\";'c'\\|{#";
    let path = "/v1/accounts/a,%22b%22;'c'%5C%7C%7B%23";
    app.send(app.tradetally.call("PUT", path)).await.expect(201);
    let lines = head_at(&app.url);
    let fields: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
    let of =
        |account: &str| fields.iter().find(|line| line[2] == account).expect("the line exists");
    let [tenant, environment, _, seq, cause, balance] = of(WALLET)[..] else { panic!("{lines}") };
    assert_eq!([tenant, environment, seq, balance], ["tronagg", "live", "5", "87000000"]);
    let entries = format!("/v1/accounts/{WALLET}/ledger");
    let entries = app.send(app.tronagg.call("GET", &entries)).await.expect(200);
    assert_eq!(entries.data()[0]["cause_id"], cause);
    assert_eq!(of(OTHER_WALLET)[3], "1");
    assert!(of(OTHER_WALLET)[4].starts_with("crd_") && of(OTHER_WALLET)[5] == "1000000");
    assert_eq!(of(odd)[..2], ["tradetally", "live"]);
    assert_eq!(of(odd)[3..], ["0", "-", "0"]);
    assert_eq!(fields.len(), 3, "{lines}");
}

#[tokio::test]
async fn ledger_verify_reports_each_line_of_the_file_that_the_ledger_no_longer_contains() {
    let app = busy_account().await;
    let lines = head_at(&app.url);
    let since = head_file("since", &lines);
    let (succeeded, output) = verify(&app, &["--since", &since]);
    assert!(
        succeeded && output.contains("2 accounts, 6 entries, 2 lines of the file: no fault"),
        "{output}"
    );
    // It is not a fault if the ledger contains entries that are newer than the file.
    app.add_credits(1).await;
    let (succeeded, output) = verify(&app, &["--since", &since]);
    assert!(
        succeeded && output.contains("2 accounts, 8 entries, 2 lines of the file: no fault"),
        "{output}"
    );

    let (number, line) = lines
        .lines()
        .enumerate()
        .find(|(_, line)| line.contains(WALLET))
        .map(|(index, line)| (index + 1, line))
        .expect("the line exists");
    let cause = line.split(' ').nth(4).expect("the line has a cause");
    let other = "pur_01h455vb4pex5vsknk084sn02q";
    for (changed, fault) in [
        (
            line.replace(" 5 pur_", " 9 pur_"),
            format!("entry 9 ({cause}) is missing. The newest entry of the account is 6"),
        ),
        (line.replace(cause, other), format!("entry 5 is {cause}, but was {other}")),
        (
            line.replace(" 87000000", " 87000001"),
            format!("the balance after entry 5 ({cause}) is 87000000, but was 87000001"),
        ),
        (line.replace(WALLET, "nobody"), "the account is missing".to_owned()),
        (line.replace("tronagg", "nobody"), "the account is missing".to_owned()),
        (line.replace("live", "test"), "the account is missing".to_owned()),
    ] {
        assert_ne!(changed, line);
        head_file("since", &lines.replace(line, &changed));
        let (succeeded, output) = verify(&app, &["--since", &since]);
        let fault = format!(": line {number} of the file: {fault}\n");
        assert!(!succeeded && output.contains(&fault), "{changed}:\n{output}");
        assert!(output.contains("1 fault in 2 accounts, 8 entries"), "{output}");
    }
    std::fs::remove_file(since).expect("the test owns the file");
}

#[tokio::test]
async fn ledger_verify_refuses_a_malformed_file_before_it_checks_anything() {
    let app = busy_account().await;
    tamper(&app, "UPDATE accounts SET last_seq = 9 WHERE held > 0").await;
    let good = format!("tronagg live {WALLET} 0 - 0\n");
    for (lines, message) in [
        (format!("{good}tronagg\n"), ", line 2: a line consists of six fields"),
        (format!("{good}\n"), ", line 2: a line consists of six fields"),
        (format!("{good}{good}tronagg prod a 0 - 0\n"), ", line 3: the environment is malformed"),
        (format!("{good}tronagg live a 1 - 0\n"), ", line 2: the last three fields"),
        (good.trim_end().to_owned(), ", line 1: the line is too long, or the file is incomplete"),
        (String::new(), " is empty. --since needs a file that contains the output of"),
        ("a".repeat(1000), ", line 1: the line is too long, or the file is incomplete"),
    ] {
        let since = head_file("malformed", &lines);
        let (succeeded, output) = verify(&app, &["--since", &since]);
        assert!(!succeeded && output.contains(&format!("{since}{message}")), "{output}");
        assert!(!output.contains("last_seq") && !output.contains("at seq 9"), "{output}");
        std::fs::remove_file(since).expect("the test owns the file");
    }
    for (since, message) in [
        ("-", "--since needs the path of a file"),
        ("/nonexistent/heads", "cannot read /nonexistent/heads: No such file"),
        ("/", "/ is not a regular file"),
    ] {
        let (succeeded, output) = verify(&app, &["--since", since]);
        assert!(!succeeded && output.contains(message), "{output}");
    }
}
