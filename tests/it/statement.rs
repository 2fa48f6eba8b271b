//! The statement of an account: its filters, order, pages and CSV, and the balance at a given time.

use serde_json::{Value, json};

use crate::harness::{App, app::NewKey};

/// An account with a credit of 100 TRX, five purchases that alternate between two keys, and a
/// refund.
struct World {
    app: App,
    path: String,
    keys: [NewKey; 2],
    entries: Vec<Value>,
}

impl World {
    async fn new() -> Self {
        let app = App::start().await;
        let wallet = app.wallet("100").await;
        let keys = [app.key(&app.tronagg, wallet).await, app.key(&app.tronagg, wallet).await];
        let mut last = String::new();
        for number in 1..=5 {
            let body =
                json!({"amount": number.to_string(), "reference": format!("order {number}")});
            let buy = keys[number % 2].call("POST", "/v1/purchases").json(body);
            last = app.send(buy).await.expect(201).text("/id").to_owned();
        }
        let refund = format!("/v1/accounts/{wallet}/purchases/{last}/refunds");
        let refund = app.tronagg.call("POST", &refund).idempotency_key("r");
        app.send(refund.json(json!({"reference": "=1+1"}))).await.expect(201);
        let path = format!("/v1/accounts/{wallet}");
        let all = app.send(app.tronagg.call("GET", &format!("{path}/ledger"))).await.expect(200);
        let entries = all.data().iter().rev().cloned().collect();
        Self { app, path, keys, entries }
    }

    async fn seqs(&self, query: &str) -> Vec<i64> {
        let path = format!("{}/ledger?{query}", self.path);
        let answer = self.app.send(self.app.tronagg.call("GET", &path)).await.expect(200);
        answer
            .data()
            .iter()
            .map(|entry| entry["seq"].as_i64().expect("the member is a number"))
            .collect()
    }

    async fn csv(&self, query: &str) -> Vec<String> {
        let path = format!("{}/ledger.csv?{query}", self.path);
        let answer = self.app.send(self.app.tronagg.call("GET", &path)).await.expect(200);
        let media_type = answer.header("content-type").expect("the response has a media type");
        assert!(media_type.starts_with("text/csv"), "{media_type}");
        let text = String::from_utf8(answer.body).expect("the text is UTF-8");
        text.split_terminator("\r\n").map(str::to_owned).collect()
    }

    fn time(&self, seq: usize) -> &str {
        self.entries[seq - 1]["created_at"].as_str().expect("the member is a string")
    }
}

#[tokio::test]
async fn statement_can_be_listed_in_both_directions_and_with_all_filters() {
    let world = World::new().await;
    assert_eq!(world.seqs("").await, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(world.seqs("order=asc").await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(world.seqs("kind=credit").await, [1]);
    assert_eq!(world.seqs("kind=refund&order=asc").await, [7]);
    assert_eq!(world.seqs("kind=purchase&order=asc").await, [2, 3, 4, 5, 6]);
    let [even, odd] = &world.keys;
    assert_eq!(world.seqs(&format!("key_id={}&order=asc", odd.id)).await, [2, 4, 6]);
    assert_eq!(world.seqs(&format!("key_id={}&kind=purchase", even.id)).await, [5, 3]);
    assert_eq!(world.seqs(&format!("key_id={}&kind=credit", even.id)).await, [0; 0]);
    let (from, to) = (world.time(3), world.time(6));
    assert_eq!(world.seqs(&format!("from={from}&to={to}&order=asc")).await, [3, 4, 5]);
    assert_eq!(world.seqs(&format!("from={from}&key_id={}", odd.id)).await, [6, 4]);
    assert_eq!(world.seqs("from=2999-01-01T00:00:00Z").await, [0; 0]);
    assert_eq!(world.seqs("to=1999-01-01T00:00:00Z").await, [0; 0]);
    assert_eq!(world.entries[1]["reference"], "order 1");
    assert_eq!(
        (&world.entries[6]["kind"], &world.entries[6]["amount"]),
        (&json!("refund"), &json!("5.000000"))
    );
}

#[tokio::test]
async fn statement_pages_contain_every_entry_in_both_directions() {
    let world = World::new().await;
    for order in ["asc", "desc"] {
        let mut query = format!("order={order}&limit=3");
        let mut seqs = Vec::new();
        loop {
            let path = format!("{}/ledger?{query}", world.path);
            let page = world.app.send(world.app.tronagg.call("GET", &path)).await.expect(200);
            seqs.extend(
                page.data()
                    .iter()
                    .map(|entry| entry["seq"].as_i64().expect("the member is a number")),
            );
            let Some(cursor) = page.json["next_cursor"].as_str() else { break };
            query = format!("order={order}&limit=3&cursor={cursor}");
        }
        let mut expected: Vec<i64> = (1..=7).collect();
        if order == "desc" {
            expected.reverse();
        }
        assert_eq!(seqs, expected);
    }
    // A cursor is valid only for its original list.
    let path = format!("{}/ledger?limit=3&order=asc", world.path);
    let page = world.app.send(world.app.tronagg.call("GET", &path)).await.expect(200);
    let cursor = page.text("/next_cursor");
    let path = format!("{}/ledger?cursor={cursor}", world.path);
    let answer = world.app.send(world.app.tronagg.call("GET", &path)).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["cursor"]);
    let path = format!("{}/ledger?kind=gift&order=up&from=x&key_id=y&z=1", world.path);
    let answer = world.app.send(world.app.tronagg.call("GET", &path)).await;
    let answer = answer.expect_problem(422, "validation_failed");
    assert_eq!(answer.errors_at(), ["from", "key_id", "kind", "order", "z"]);
}

#[tokio::test]
async fn csv_statement_matches_the_entries_and_is_safe_in_a_spreadsheet() {
    let world = World::new().await;
    let lines = world.csv("order=asc").await;
    assert_eq!(
        lines[0],
        "seq,created_at,kind,amount,currency,balance_after,cause_id,key_id,admin_key_id,reference"
    );
    assert_eq!(lines.len(), 8);
    for (line, entry) in lines[1..].iter().zip(&world.entries) {
        let text = |member: &str| entry[member].as_str().unwrap_or_default();
        let start = format!(
            "{},{},{},{},TRX,{},{},{},{},",
            entry["seq"],
            text("created_at"),
            text("kind"),
            text("amount"),
            text("balance_after"),
            text("cause_id"),
            text("key_id"),
            text("admin_key_id"),
        );
        assert!(line.starts_with(&start), "{line} does not begin with {start}");
    }
    assert!(lines[2].ends_with(",order 1") && lines[7].ends_with(",\"'=1+1\""), "{lines:?}");
    let filtered = world.csv(&format!("key_id={}", world.keys[1].id)).await;
    assert_eq!(filtered.len(), 4);
    let path = format!("{}/ledger.csv?limit=3", world.path);
    let answer = world.app.send(world.app.tronagg.call("GET", &path)).await;
    assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["limit"]);
}

#[tokio::test]
async fn long_csv_statement_is_complete() {
    let world = World::new().await;
    // The statement needs several reads for this many entries.
    world.app.add_credits(2500).await;
    for (order, first, last) in [("asc", "1", "2507"), ("desc", "2507", "1")] {
        let lines = world.csv(&format!("order={order}")).await;
        assert_eq!(lines.len(), 2508);
        assert!(
            lines[1].starts_with(&format!("{first},"))
                && lines[2507].starts_with(&format!("{last},"))
        );
    }
    world.app.check_ledger().await;
}

#[tokio::test]
async fn balance_at_a_time_includes_every_entry_up_to_that_time() {
    let world = World::new().await;
    let balance = async |query: &str| {
        let path = format!("{}/balance{query}", world.path);
        let answer = world.app.send(world.app.tronagg.call("GET", &path)).await.expect(200);
        (
            answer.json["seq"].as_i64().expect("the member is a number"),
            answer.text("/amount").to_owned(),
        )
    };
    assert_eq!(balance("?at=2001-01-01T00:00:00Z").await, (0, "0.000000".into()));
    assert_eq!(balance(&format!("?at={}", world.time(1))).await, (1, "100.000000".into()));
    assert_eq!(balance(&format!("?at={}", world.time(4))).await, (4, "94.000000".into()));
    assert_eq!(balance("").await, (7, "90.000000".into()));
    for invalid in ["?at=2999-01-01T00:00:00Z", "?at=now"] {
        let path = format!("{}/balance{invalid}", world.path);
        let answer = world.app.send(world.app.tronagg.call("GET", &path)).await;
        assert_eq!(answer.expect_problem(422, "validation_failed").errors_at(), ["at"]);
    }
    world.app.check_ledger().await;
}
