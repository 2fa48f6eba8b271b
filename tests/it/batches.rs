//! The ledger decides the operations of a batch in order. It decides each operation exactly once,
//! even if the node retries the batch or an attempt arrives late.

use std::sync::Arc;

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};
use tollgate::{
    domain::{
        account::{AccountFormat, AccountId, ExternalId},
        amount::Amount,
        id::{BatchId, KeyId, PurchaseId, RequestId},
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        text::Metadata,
    },
    money::{Buyer, Money},
    store::{Batch, BatchConnection, BatchOutcome, Done, Operation, OperationAction, StoreError},
};
use uuid::Uuid;

use crate::harness::{App, Call, OTHER_WALLET, WALLET, app::NewKey};

/// Builds operations of one key with ascending ids.
struct OperationBuilder {
    account_id: AccountId,
    key_id: KeyId,
    next: u128,
}

impl OperationBuilder {
    fn new(app: &App, account: &str, key: &NewKey, first: u128) -> Self {
        let account =
            ExternalId::parse(account, AccountFormat::Any).expect("the account id is valid");
        let account_id = AccountId::derive(app.tronagg.tenant.id, &account);
        Self { account_id, key_id: key.id.parse().expect("the id is valid"), next: first }
    }

    fn buy(&mut self, minor_units: i64, key: Option<&str>) -> Operation {
        self.next += 1;
        let purchase = NewPurchase {
            amount: Amount::from_minor_units(minor_units).expect("the amount is positive"),
            reference: None,
            description: None,
            metadata: Metadata::default(),
        };
        let id = PurchaseId::from_uuid(Uuid::from_u128(self.next));
        let idempotency_key = key.map(|key| IdempotencyKey::parse(key).expect("the key is valid"));
        Operation {
            account_id: self.account_id,
            key_id: self.key_id,
            request_id: RequestId::from_uuid(Uuid::from_u128(self.next)),
            action: OperationAction::Purchase { id, purchase, idempotency_key },
        }
    }
}

fn batch(id: u128, operations: Vec<Operation>) -> Batch {
    let id = BatchId::from_uuid(Uuid::from_u128(id));
    Batch { id, attempt: 1, wait: false, operations }
}

/// Formats each outcome as a short text. For a purchase, the text contains the balance after it.
/// For a decline, it contains the available amount with a minus sign, and says whether the decline
/// is a replay.
fn describe(outcomes: &[BatchOutcome]) -> Vec<String> {
    let text = |outcome: &BatchOutcome| match outcome {
        BatchOutcome::Done(Done { now: Some(now), .. }) => {
            format!("{}", now.balance_after.expect("the outcome has a balance"))
        }
        BatchOutcome::Done(Done { replayed, .. }) => format!("before, replayed: {replayed}"),
        BatchOutcome::Declined(decline) => format!("-{}, {}", decline.available, decline.replayed),
        BatchOutcome::Refused(refusal) => format!("{refusal:?}"),
        BatchOutcome::Busy => "busy".to_owned(),
        BatchOutcome::Fenced => "fenced".to_owned(),
    };
    outcomes.iter().map(text).collect()
}

async fn apply(app: &App, batch: &Batch) -> Vec<String> {
    let mut connection = BatchConnection::default();
    describe(&app.store.apply(&mut connection, batch).await.expect("the batch is applied"))
}

#[tokio::test]
async fn batch_decides_operations_in_order_and_a_decline_affects_no_other_operation() {
    let app = App::start().await;
    let wallet = app.wallet("0.000010").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut operations = OperationBuilder::new(&app, wallet, &key, 0);
    let batched = vec![
        operations.buy(4, Some("a")),
        operations.buy(7, Some("b")),
        operations.buy(4, Some("a")),
        operations.buy(5, Some("a")),
        operations.buy(6, None),
        operations.buy(1, None),
        operations.buy(7, Some("b")),
    ];
    let decided = apply(&app, &batch(1, batched)).await;
    let replay = "before, replayed: true";
    let mismatch = "IdempotencyMismatch";
    assert_eq!(decided, ["6", "-6, false", replay, mismatch, "0", "-0, false", "-6, true"]);
    app.check_ledger().await;
}

#[tokio::test]
async fn purchase_of_a_rotated_key_in_a_multi_account_batch_counts_toward_its_successors_limit() {
    let app = App::start().await;
    let wallet = app.wallet("1").await;
    app.account(&app.tronagg, OTHER_WALLET, "1").await;
    let (old, other) =
        (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, OTHER_WALLET).await);
    let rotate = app.tronagg.call("POST", &format!("{}/rotate", old.path));
    let new = app.send(rotate.json(json!({"grace_seconds": 60}))).await.expect(201);
    let path = format!("/v1/accounts/{wallet}/keys/{}", new.text("/id"));
    let limit = json!({"spend_limit": {"amount": "0.000009", "period": "total"}});
    app.send(app.tronagg.call("PATCH", &path).json(limit)).await.expect(200);
    let mut of_wallet = OperationBuilder::new(&app, wallet, &old, 0);
    let mut of_other = OperationBuilder::new(&app, OTHER_WALLET, &other, 1000);
    let decided = apply(&app, &batch(1, vec![of_wallet.buy(4, None), of_other.buy(1, None)])).await;
    assert_eq!(decided, ["999996", "999999"]);
    app.check_ledger().await;
    let me = Call::new("GET", "/v1/me").header("X-API-Key", new.text("/key"));
    assert_eq!(app.send(me).await.expect(200).text("/spend_left"), "0.000005");
}

#[tokio::test]
async fn multi_account_batch_decides_each_account_independently() {
    let app = App::start().await;
    let wallet = app.wallet("0.000010").await;
    app.account(&app.tronagg, OTHER_WALLET, "0.000010").await;
    let (key, other) =
        (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, OTHER_WALLET).await);
    let mut of_wallet = OperationBuilder::new(&app, wallet, &key, 0);
    let mut of_other = OperationBuilder::new(&app, OTHER_WALLET, &other, 1000);
    // In the first batch, every operation succeeds. The second batch contains a decline and a
    // replay for one account.
    let plain = vec![
        of_wallet.buy(1, Some("a1")),
        of_other.buy(2, None),
        of_wallet.buy(2, None),
        of_other.buy(3, Some("b1")),
    ];
    assert_eq!(apply(&app, &batch(1, plain)).await, ["9", "8", "7", "5"]);
    let mixed = vec![
        of_wallet.buy(8, None),
        of_other.buy(2, None),
        of_wallet.buy(1, Some("a1")),
        of_wallet.buy(7, None),
    ];
    let replay = "before, replayed: true";
    assert_eq!(apply(&app, &batch(2, mixed)).await, ["-7, false", "3", replay, "0"]);
    // A key of another account cannot buy.
    let mut foreign = OperationBuilder::new(&app, wallet, &other, 2000);
    let refused = vec![foreign.buy(1, None), of_other.buy(3, None)];
    assert_eq!(apply(&app, &batch(3, refused)).await, ["NotFound", "0"]);
    app.check_ledger().await;
}

#[tokio::test]
async fn resent_batch_returns_the_first_outcomes_and_applies_nothing_twice() {
    let app = App::start().await;
    let wallet = app.wallet("0.000010").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut operations = OperationBuilder::new(&app, wallet, &key, 0);
    let mut resent = batch(
        1,
        vec![operations.buy(4, None), operations.buy(7, Some("b")), operations.buy(6, Some("c"))],
    );
    assert_eq!(apply(&app, &resent).await, ["6", "-6, false", "0"]);
    resent.attempt = 2;
    // The outcomes are not marked as replays, because no caller has received the first response.
    let own = "before, replayed: false";
    assert_eq!(apply(&app, &resent).await, [own, "-6, false", own]);
    app.check_ledger().await;
}

#[tokio::test]
async fn attempt_of_a_batch_that_arrives_after_a_later_attempt_has_no_effect() {
    for accounts in [1, 2] {
        let app = App::start().await;
        let wallet = app.wallet("0.000010").await;
        app.account(&app.tronagg, OTHER_WALLET, "0.000010").await;
        let key = app.key(&app.tronagg, wallet).await;
        let other = app.key(&app.tronagg, OTHER_WALLET).await;
        let mut of_wallet = OperationBuilder::new(&app, wallet, &key, 0);
        let mut of_other = OperationBuilder::new(&app, OTHER_WALLET, &other, 1000);
        // The ledger does not record a decline without an idempotency key. Without the fence, the
        // late attempt would make the purchase after the top-up, although its caller got a decline.
        let mut operations = vec![of_wallet.buy(11, None)];
        if accounts == 2 {
            operations.push(of_other.buy(11, None));
        }
        let mut sent = batch(1, operations);
        sent.attempt = 2;
        assert_eq!(apply(&app, &sent).await, vec!["-10, false"; accounts]);
        for account in [WALLET, OTHER_WALLET] {
            let path = format!("/v1/accounts/{account}/credits");
            let credit = app.tronagg.call("POST", &path).idempotency_key("more");
            app.send(credit.json(serde_json::json!({"amount": "1"}))).await.expect(201);
        }
        sent.attempt = 1;
        assert_eq!(apply(&app, &sent).await, vec!["fenced"; accounts]);
        app.check_ledger().await;
    }
}

#[tokio::test]
async fn batch_sees_decisions_that_were_committed_while_it_waited_for_the_account_lock() {
    let app = App::start().await;
    let wallet = app.wallet("0.000010").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut operations = OperationBuilder::new(&app, wallet, &key, 0);
    let lock = app.lock_accounts().await;
    let waiting: Vec<_> = (1..=2)
        .map(|id| {
            let batch = Batch { wait: true, ..batch(id, vec![operations.buy(4, Some("once"))]) };
            let store = Arc::clone(&app.store);
            tokio::spawn(async move {
                store
                    .apply(&mut BatchConnection::default(), &batch)
                    .await
                    .expect("the batch is applied")
            })
        })
        .collect();
    app.wait_until_blocked(2).await;
    lock.commit().await.expect("the transaction commits");
    let mut decided = Vec::new();
    for outcomes in waiting {
        decided.extend(describe(&outcomes.await.expect("the task does not panic")));
    }
    decided.sort();
    assert_eq!(decided, ["6", "before, replayed: true"]);
    app.check_ledger().await;
}

#[tokio::test]
async fn locked_account_does_not_block_other_accounts_in_a_batch() {
    let app = App::start().await;
    let wallet = app.wallet("0.000010").await;
    app.account(&app.tronagg, OTHER_WALLET, "0.000010").await;
    let (key, other) =
        (app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, OTHER_WALLET).await);
    let mut of_wallet = OperationBuilder::new(&app, wallet, &key, 0);
    let mut of_other = OperationBuilder::new(&app, OTHER_WALLET, &other, 1000);
    let mut lock = app.pool.begin().await.expect("the transaction begins");
    sqlx::query("SELECT FROM accounts WHERE external_id = $1 FOR UPDATE")
        .bind(wallet)
        .execute(&mut *lock)
        .await
        .expect("Postgres grants the lock");
    let both = batch(1, vec![of_wallet.buy(1, None), of_other.buy(2, None)]);
    assert_eq!(apply(&app, &both).await, ["busy", "8"]);
    assert_eq!(apply(&app, &batch(2, vec![of_wallet.buy(1, None)])).await, ["busy"]);
    drop(lock);
    app.check_ledger().await;
}

#[tokio::test]
async fn full_purchase_queue_refuses_operations_and_records_nothing() {
    let app = App::start().await;
    let wallet = app.wallet("1").await;
    let key = app.key(&app.tronagg, wallet).await;
    let money = Money::new(Arc::clone(&app.store));
    let lock = app.lock_accounts().await;
    let mut waiting = tokio::task::JoinSet::new();
    // The batch that waits for the lock contains 500 purchases, and the queue has room for 2000.
    for number in 0..2600_u128 {
        let (money, tenant) = (money.clone(), Arc::clone(&app.tronagg.tenant));
        let account =
            ExternalId::parse(wallet, AccountFormat::Tron).expect("the account id is valid");
        let key_id = key.id.parse().expect("the id is valid");
        let request_id = RequestId::from_uuid(Uuid::from_u128(number));
        let buyer = Buyer { tenant, account, key_id, request_id };
        let purchase = NewPurchase {
            amount: Amount::from_minor_units(1).expect("the amount is positive"),
            reference: None,
            description: None,
            metadata: Metadata::default(),
        };
        waiting.spawn(async move {
            let key = IdempotencyKey::parse(&format!("k{number}")).expect("the key is valid");
            money.purchase(&buyer, purchase, Some(key)).await
        });
    }
    app.wait_until_blocked(1).await;
    let mut refused = 0;
    while let Some(Ok(Err(StoreError::Unavailable(_)))) = waiting.try_join_next() {
        refused += 1;
    }
    assert!((100..=600).contains(&refused), "{refused}");
    lock.commit().await.expect("the transaction commits");
    let results = waiting.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2600 - refused);
    let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM idempotency_records")
        .fetch_one(&app.pool)
        .await
        .expect("the query returns a number");
    // The opening credit adds one record.
    assert_eq!(usize::try_from(recorded), Ok(2600 - refused + 1));
    app.check_ledger().await;
}

#[tokio::test]
async fn database_error_in_one_purchase_does_not_fail_other_purchases() {
    let app = App::start().await;
    let wallet = app.wallet("10").await;
    let key = app.key(&app.tronagg, wallet).await;
    // This constraint simulates a bug in the program. The database rejects a purchase of one minor
    // unit.
    sqlx::query("ALTER TABLE purchases ADD CONSTRAINT broken CHECK (amount <> 1)")
        .execute(&app.pool)
        .await
        .expect("the constraint is added");
    let lock = app.lock_accounts().await;
    let calls = ["1", "0.000001", "2"].map(|amount| {
        let request = key.buy(amount).into_request();
        tokio::spawn(tower::ServiceExt::oneshot(app.router.clone(), request))
    });
    app.wait_until_blocked(1).await;
    lock.commit().await.expect("the transaction commits");
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(
            call.await
                .expect("the task does not panic")
                .expect("the router is infallible")
                .status()
                .as_u16(),
        );
    }
    assert_eq!(statuses, [201, 500, 201]);
    assert_eq!(app.balance(&app.tronagg, wallet).await, "7.000000");
    app.check_ledger().await;
}

#[tokio::test]
async fn batch_may_be_empty_name_an_unknown_account_or_contain_the_maximum_amount() {
    let app = App::start().await;
    let wallet = app.wallet("1").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut operations = OperationBuilder::new(&app, wallet, &key, 0);
    assert_eq!(apply(&app, &batch(1, Vec::new())).await, Vec::<String>::new());
    let mut unknown = OperationBuilder::new(&app, "nobody", &key, 10);
    assert_eq!(apply(&app, &batch(2, vec![unknown.buy(1, None)])).await, ["NotFound"]);
    let both = vec![unknown.buy(1, None), operations.buy(1, None)];
    assert_eq!(apply(&app, &batch(3, both)).await, ["NotFound", "999999"]);
    let largest = batch(4, vec![operations.buy(i64::MAX, None)]);
    assert_eq!(apply(&app, &largest).await, ["-999999, false"]);
    app.check_ledger().await;
}

/// Every plan of both ledger functions uses an index that begins with the account. This is also
/// true for a session that planned its statements while the tables were empty.
#[tokio::test]
async fn ledger_functions_use_only_index_scans_by_account() {
    let app = App::start().await;
    let wallet = app.wallet("1000").await;
    let key = app.key(&app.tronagg, wallet).await;
    let mut connection = app.pool.acquire().await.expect("the connection opens");
    connection
        .execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;
             SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = 'json'",
        )
        .await
        .expect("plans are logged");
    let account: (Uuid,) = sqlx::query_as("SELECT account_id FROM accounts WHERE external_id = $1")
        .bind(wallet)
        .fetch_one(&app.pool)
        .await
        .expect("the query succeeds");
    let key_id = key.id.parse::<KeyId>().expect("the id is valid").uuid();
    let call = |first: u32, function: &str, attempt: u32| {
        format!(
            "SELECT count(*) FROM {function}, p_open_holds => 1000, p_key_holds => 200,
             p_purchase_scopes => '{{write}}', p_operations => ARRAY(
                 SELECT ledger_operation(
                     account_id => '{account}', kind => kind,
                     id => lpad((n + {first})::text, 32, '0')::uuid, key_id => '{key_id}',
                     request_id => '{key_id}', amount => 1, metadata => '{{}}',
                     idempotency_key => 'k' || (n + {first}), fingerprint => sha256('x'),
                     hold_id => CASE kind WHEN 'void' THEN '{key_id}'::uuid END, expires_in => 60)
                 FROM generate_series(1, 6) AS n,
                      LATERAL (SELECT (ARRAY['purchase', 'hold', 'void'])[1 + n % 3]) AS k (kind)))",
            account = account.0,
        )
        .replace("ATTEMPT", &attempt.to_string())
    };
    let apply_one = format!("ledger_apply('{}', '{key_id}', ATTEMPT, false", account.0);
    let apply_all = format!("ledger_apply_all('{key_id}', ATTEMPT, false");
    // After six calls, Postgres uses generic plans. Then the tables grow.
    for round in 0..6 {
        for (function, attempt) in [(&apply_one, 1), (&apply_all, 1)] {
            let statement = call(round * 20 + attempt * 10_000, function, attempt);
            connection.execute(AssertSqlSafe(statement)).await.expect("the function runs");
        }
    }
    fill_tables(&app).await;
    let log = crate::harness::cluster::log();
    let before = log.len();
    for (first, function, attempt) in
        [(50_000, &apply_one, 1), (51_000, &apply_all, 1), (52_000, &apply_one, 2)]
    {
        connection
            .execute(AssertSqlSafe(call(first, function, attempt)))
            .await
            .expect("the function runs");
    }
    let log = crate::harness::cluster::log();
    let plans = log[before..].matches("\"Node Type\"").count();
    assert!(plans > 40, "only {plans} plans were logged");
    for line in log[before..].lines().filter(|line| line.contains("\"Node Type\"")) {
        for scan in ["Seq Scan", "Bitmap Heap Scan", "Hash Join", "Merge Join"] {
            assert!(!line.contains(scan), "{line}");
        }
    }
    // An index scan without a condition on the account would read rows of other accounts. The only
    // other row that the functions read is the row of the tenant.
    let mut index = "";
    for line in log[before..].lines() {
        if line.contains("\"Index Name\"") {
            index = line;
        } else if line.contains("\"Index Cond\"") {
            let is_read = line.contains("account_id") || index.contains("\"tenants_pkey\"");
            assert!(is_read, "{index} {line}");
        }
    }
    app.check_ledger().await;
}

/// Adds many rows of another account to each table, and updates the statistics.
async fn fill_tables(app: &App) {
    app.account(&app.tronagg, OTHER_WALLET, "0").await;
    let key = app.key(&app.tronagg, OTHER_WALLET).await;
    let account = "(SELECT account_id FROM accounts WHERE external_id = $1)";
    let credit = format!(
        "INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id, created_at)
         VALUES ({account}, 1, 'credit', 100000, 100000, gen_random_uuid(), now())"
    );
    let entries = format!(
        "INSERT INTO ledger_entries (account_id, seq, kind, amount, balance_after, cause_id, key_id,
                                     created_at)
         SELECT {account}, 1 + n, 'purchase', -1, 100000 - n, gen_random_uuid(), $2, now()
         FROM generate_series(1, 20000) AS n"
    );
    let key_id = key.id.parse::<KeyId>().expect("the id is valid").uuid();
    sqlx::query(AssertSqlSafe(credit))
        .bind(OTHER_WALLET)
        .execute(&app.pool)
        .await
        .expect("rows are inserted");
    sqlx::query(AssertSqlSafe(entries))
        .bind(OTHER_WALLET)
        .bind(key_id)
        .execute(&app.pool)
        .await
        .expect("rows are inserted");
    for statement in [
        "INSERT INTO credits (account_id, credit_id, seq, amount, created_at)
         SELECT account_id, cause_id, seq, amount, created_at FROM ledger_entries
         WHERE kind = 'credit' ON CONFLICT DO NOTHING",
        "INSERT INTO purchases (account_id, purchase_id, seq, key_id, amount, metadata, created_at)
         SELECT account_id, cause_id, seq, key_id, -amount, '{}', created_at FROM ledger_entries
         WHERE kind = 'purchase' ON CONFLICT DO NOTHING",
        "INSERT INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
                                          cause_id, created_at)
         SELECT account_id, 'purchase', 'filled ' || seq, sha256('x'), purchase_id, created_at
         FROM purchases WHERE seq > 100",
        "INSERT INTO holds (account_id, hold_id, key_id, amount, status, created_at, expires_at,
                            closed_at, closed_by, closed_for, void_reason)
         SELECT account_id, purchase_id, key_id, 1, 'voided', created_at,
                created_at + interval '1 minute', created_at, key_id, key_id, 'api_key'
         FROM purchases WHERE seq > 100",
        "INSERT INTO spend_counters (account_id, key_id, day, day_spent, month, month_spent,
                                     total_spent)
         SELECT account_id, key_id, current_date, sum(amount), date_trunc('month', current_date),
                sum(amount), sum(amount)
         FROM purchases GROUP BY account_id, key_id ON CONFLICT DO NOTHING",
        "UPDATE accounts SET balance = e.balance_after, last_seq = e.seq, last_entry_at = e.created_at
         FROM (SELECT DISTINCT ON (account_id) * FROM ledger_entries ORDER BY account_id, seq DESC) e
         WHERE accounts.account_id = e.account_id",
        "VACUUM ANALYZE",
    ] {
        sqlx::query(statement).execute(&app.pool).await.expect(statement);
    }
}
