//! Compares the rows of an account with the requests and outcomes of its clients.

use std::{collections::HashMap, time::Instant};

use sqlx::{FromRow, PgPool, postgres::PgRow};
use uuid::Uuid;

use super::record::{Attempt, Closing, Kind, Order, Outcome, decision_span, first_outcome};

/// The rows of one account.
struct StoredAccount {
    balance: i64,
    held: i64,
    last_seq: i64,
    entries: Vec<Entry>,
    /// The purchases and credits that caused the entries.
    causes: Vec<Cause>,
    holds: Vec<Hold>,
    records: Vec<Record>,
}

#[derive(FromRow)]
struct Entry {
    seq: i64,
    kind: String,
    amount: i64,
    balance_after: i64,
    cause_id: Uuid,
}

/// A purchase or a credit.
#[derive(FromRow, Debug)]
struct Cause {
    id: Uuid,
    kind: String,
    seq: i64,
    amount: i64,
    reference: Option<String>,
    hold_id: Option<Uuid>,
}

#[derive(FromRow, Debug)]
struct Hold {
    hold_id: Uuid,
    amount: i64,
    reference: Option<String>,
    status: String,
    captured: Option<i64>,
    purchase_id: Option<Uuid>,
}

/// The recorded result of an `Idempotency-Key`.
#[derive(FromRow, Debug)]
struct Record {
    operation: String,
    idempotency_key: String,
    cause_id: Option<Uuid>,
    required: Option<i64>,
    available: Option<i64>,
    seq: Option<i64>,
    held: Option<i64>,
}

/// The rows that one order caused.
#[derive(Default)]
struct OrderRows<'a> {
    causes: Vec<&'a Cause>,
    holds: Vec<&'a Hold>,
    record: Option<&'a Record>,
}

/// An order for which the service recorded a decision.
struct Decision<'a> {
    /// The position in the ledger. For an order with an entry: its `seq` and `false`. For a
    /// decline: the `seq` of the entry before it and `true`.
    position: (i64, bool),
    begun: Instant,
    answered: Instant,
    reference: &'a str,
}

/// Finds every violation in an account. Call it only after all operations have finished.
pub async fn judge(pool: &PgPool, account: &str, orders: &[&Order]) -> Vec<String> {
    let stored = StoredAccount::read(pool, account).await;
    let mut violations = Vec::new();
    stored.check_chain(&mut violations);
    stored.check_orders(orders, &mut violations);
    stored.check_order_in_time(orders, &mut violations);
    for order in orders {
        let reference = &order.reference;
        check_replays(reference, &order.attempts, true, &mut violations);
        if let Some(Closing { captured, attempts }) = &order.closing {
            // The service does not mark the response to a repeated void as a replay.
            check_replays(reference, attempts, captured.is_some(), &mut violations);
        }
    }
    violations.into_iter().map(|violation| format!("{account}: {violation}")).collect()
}

impl StoredAccount {
    async fn read(pool: &PgPool, account: &str) -> Self {
        let (id, balance, held, last_seq): (Uuid, i64, i64, i64) = sqlx::query_as(
            "SELECT account_id, balance, held, last_seq FROM accounts WHERE external_id = $1",
        )
        .bind(account)
        .fetch_one(pool)
        .await
        .expect("the account can be read");
        let entries = "SELECT seq, kind, amount, balance_after, cause_id
                       FROM ledger_entries WHERE account_id = $1 ORDER BY seq";
        let causes = "SELECT purchase_id AS id, 'purchase' AS kind, seq, amount, reference, hold_id
                    FROM purchases WHERE account_id = $1
                    UNION ALL
                    SELECT credit_id, 'credit', seq, amount, reference, NULL
                    FROM credits WHERE account_id = $1";
        let holds = "SELECT hold_id, amount, reference, status, captured, purchase_id
                     FROM holds WHERE account_id = $1";
        let records = "SELECT operation, idempotency_key, cause_id, required, available, seq, held
                       FROM idempotency_records WHERE account_id = $1";
        Self {
            balance,
            held,
            last_seq,
            entries: rows(pool, entries, id).await,
            causes: rows(pool, causes, id).await,
            holds: rows(pool, holds, id).await,
            records: rows(pool, records, id).await,
        }
    }

    /// Checks that the entries have no gaps and add up to the balance, and that each entry belongs
    /// to a purchase or a credit.
    fn check_chain(&self, violations: &mut Vec<String>) {
        let causes: HashMap<Uuid, &Cause> =
            self.causes.iter().map(|cause| (cause.id, cause)).collect();
        let mut balance = 0_i64;
        for (position, entry) in (1..).zip(&self.entries) {
            let Entry { seq, kind, amount, balance_after, cause_id } = entry;
            if *seq != position {
                violations.push(format!("seq {seq} is at position {position}"));
            }
            if balance + amount != *balance_after || *balance_after < 0 {
                violations
                    .push(format!("at seq {seq}, {balance} plus {amount} is not {balance_after}"));
            }
            balance = *balance_after;
            let has_cause = causes.get(cause_id).is_some_and(|cause| {
                let sign = if kind == "purchase" { -1 } else { 1 };
                cause.seq == *seq && cause.kind == *kind && cause.amount * sign == *amount
            });
            if !has_cause {
                violations.push(format!(
                    "seq {seq} is a {kind} of {amount}, which {cause_id} does not match"
                ));
            }
        }
        let sum = self.entries.iter().map(|entry| entry.amount).sum::<i64>();
        let count = self.entries.len();
        if self.balance != sum || self.balance != balance {
            violations
                .push(format!("the balance is {}, but its entries sum to {sum}", self.balance));
        }
        if usize::try_from(self.last_seq) != Ok(count) || self.causes.len() != count {
            let (last_seq, causes) = (self.last_seq, self.causes.len());
            violations.push(format!(
                "last_seq is {last_seq}, but {count} entries and {causes} causes exist"
            ));
        }
        let open_holds = self.holds.iter().filter(|hold| hold.status == "open");
        let sum = open_holds.map(|hold| hold.amount).sum::<i64>();
        if self.held != sum {
            violations.push(format!("{} is held, but the open holds sum to {sum}", self.held));
        }
    }

    /// Checks that each order caused exactly the rows of its outcome, and that there are no other
    /// rows.
    fn check_orders(&self, orders: &[&Order], violations: &mut Vec<String>) {
        let mut all_rows: HashMap<&str, OrderRows<'_>> = HashMap::new();
        for cause in &self.causes {
            let reference = cause.reference.as_deref().unwrap_or_default();
            all_rows.entry(reference).or_default().causes.push(cause);
        }
        for hold in &self.holds {
            let reference = hold.reference.as_deref().unwrap_or_default();
            all_rows.entry(reference).or_default().holds.push(hold);
        }
        let mut records: HashMap<_, _> =
            self.records.iter().map(|record| (record.key(), record)).collect();
        for order in orders {
            let mut rows = all_rows.remove(&*order.reference).unwrap_or_default();
            let key = order.idempotency_key.as_deref();
            rows.record = key.and_then(|key| records.remove(&(order.kind.as_str(), key)));
            self.check_order(order, &rows, violations);
        }
        for OrderRows { causes, holds, .. } in all_rows.values() {
            violations.push(format!("no order explains the rows {causes:?} {holds:?}"));
        }
        violations.extend(
            records.values().map(|record| format!("no order explains the record {record:?}")),
        );
    }

    fn check_order(&self, order: &Order, rows: &OrderRows<'_>, violations: &mut Vec<String>) {
        let (reference, amount) = (&order.reference, order.amount);
        let outcome = first_outcome(&order.attempts);
        if !fits_amount(outcome, amount) {
            violations
                .push(format!("{reference} requests {amount}, but has the outcome {outcome:?}"));
        }
        let is_recorded =
            order.idempotency_key.is_none() || self.is_recorded(outcome, amount, rows.record);
        if !is_recorded {
            let record = rows.record;
            violations.push(format!(
                "{reference} has the outcome {outcome:?}, but its record is {record:?}"
            ));
        }
        if order.kind != Kind::Hold {
            if !self.is_applied(outcome, amount, None, &rows.causes) || !rows.holds.is_empty() {
                let OrderRows { causes, holds, .. } = rows;
                violations.push(format!(
                    "{reference} has the outcome {outcome:?}, but its rows are {causes:?} {holds:?}"
                ));
            }
            return;
        }
        if !is_held(outcome, amount, order.closing.as_ref(), &rows.holds) {
            let (closing, holds) = (closing_outcome(order), &rows.holds);
            violations.push(format!(
                "{reference} has the outcomes {outcome:?} {closing:?}, but its holds are {holds:?}"
            ));
        }
        let hold_id = rows.holds.first().map(|hold| hold.hold_id);
        let is_captured = match &order.closing {
            Some(Closing { captured: Some(amount), attempts }) => {
                fits_amount(first_outcome(attempts), *amount)
                    && self.is_applied(first_outcome(attempts), *amount, hold_id, &rows.causes)
            }
            _ => rows.causes.is_empty(),
        };
        if !is_captured {
            let (closing, causes) = (closing_outcome(order), &rows.causes);
            violations.push(format!(
                "the closing of {reference} is {closing:?}, but its purchases are {causes:?}"
            ));
        }
    }

    /// Whether the order caused at most one purchase or credit, which matches the outcome.
    fn is_applied(
        &self,
        outcome: Outcome,
        amount: i64,
        hold_id: Option<Uuid>,
        causes: &[&Cause],
    ) -> bool {
        let match_order =
            causes.iter().all(|cause| cause.amount == amount && cause.hold_id == hold_id);
        let match_outcome = match (outcome, causes) {
            (Outcome::Done { id, balance_after, .. }, [cause]) => {
                let stored = self.balance_at(cause.seq);
                cause.id == id && balance_after.is_none_or(|balance| stored == Some(balance))
            }
            (Outcome::Done { .. }, _) => false,
            (Outcome::Declined { .. } | Outcome::Expired, causes) => causes.is_empty(),
            (Outcome::Unknown | Outcome::Unexpected, causes) => causes.len() <= 1,
        };
        match_order && match_outcome
    }

    /// Whether the record of the `Idempotency-Key` matches the outcome. A decline must also be
    /// correct at its position in the ledger.
    fn is_recorded(&self, outcome: Outcome, amount: i64, record: Option<&Record>) -> bool {
        match (outcome, record) {
            (Outcome::Done { id, .. }, Some(record)) => record.cause_id == Some(id),
            (Outcome::Declined { required, available }, Some(record)) => {
                let balance = record.seq.and_then(|seq| self.balance_at(seq));
                let stored = balance.zip(record.held).map(|(balance, held)| balance - held);
                record.cause_id.is_none()
                    && (record.required, record.available) == (Some(required), Some(available))
                    && stored == Some(available)
                    && amount > available
            }
            (Outcome::Done { .. } | Outcome::Declined { .. }, None) => false,
            (Outcome::Expired | Outcome::Unknown | Outcome::Unexpected, _) => true,
        }
    }

    /// Checks the chronological order. If the client received the response to one order before it
    /// sent another order, the first order must come earlier in the ledger.
    fn check_order_in_time(&self, orders: &[&Order], violations: &mut Vec<String>) {
        let mut decisions = self.decisions(orders);
        decisions.sort_by_key(|decision| decision.position);
        // Among the decisions that are earlier in the ledger, the decision whose first request was
        // sent last.
        let mut latest: Option<&Decision<'_>> = None;
        for same_position in decisions.chunk_by(|one, next| one.position == next.position) {
            for later in same_position {
                if let Some(earlier) = latest.filter(|earlier| later.answered < earlier.begun) {
                    let (first, second) = (later.reference, earlier.reference);
                    let (position, before) = (later.position, earlier.position);
                    violations.push(format!(
                        "{first} was answered before {second} began, but comes after it: \
                         {position:?}, {before:?}"
                    ));
                }
            }
            latest = same_position.iter().chain(latest).max_by_key(|decision| decision.begun);
        }
    }

    /// Lists the decisions with a known position in the ledger.
    fn decisions<'a>(&self, orders: &[&'a Order]) -> Vec<Decision<'a>> {
        let seqs: HashMap<Uuid, i64> =
            self.causes.iter().map(|cause| (cause.id, cause.seq)).collect();
        let records: HashMap<_, _> =
            self.records.iter().map(|record| (record.key(), record)).collect();
        let mut decisions = Vec::new();
        for &order in orders {
            let closing = order.closing.as_ref().map(|closing| &closing.attempts);
            for attempts in std::iter::once(&order.attempts).chain(closing) {
                let position = match first_outcome(attempts) {
                    // A hold has no ledger entry.
                    Outcome::Done { id, .. } => seqs.get(&id).map(|seq| (*seq, false)),
                    Outcome::Declined { .. } => {
                        let key = order.idempotency_key.as_deref();
                        let record = key.and_then(|key| records.get(&(order.kind.as_str(), key)));
                        record.and_then(|record| record.seq).map(|seq| (seq, true))
                    }
                    Outcome::Expired | Outcome::Unknown | Outcome::Unexpected => None,
                };
                if let Some((position, (begun, answered))) = position.zip(decision_span(attempts)) {
                    decisions.push(Decision {
                        position,
                        begun,
                        answered,
                        reference: &order.reference,
                    });
                }
            }
        }
        decisions
    }

    fn balance_at(&self, seq: i64) -> Option<i64> {
        match usize::try_from(seq).ok()?.checked_sub(1) {
            None => Some(0),
            Some(index) => self.entries.get(index).map(|entry| entry.balance_after),
        }
    }
}

impl Record {
    fn key(&self) -> (&str, &str) {
        (&self.operation, &self.idempotency_key)
    }
}

/// Checks that all attempts of an order have the same outcome and body, and that all but the first
/// are marked as replays.
fn check_replays(
    reference: &str,
    attempts: &[Attempt],
    are_marked: bool,
    violations: &mut Vec<String>,
) {
    let is_definite = |attempt: &&Attempt| {
        matches!(attempt.outcome, Outcome::Done { .. } | Outcome::Declined { .. })
    };
    let mut definite = attempts.iter().filter(is_definite);
    let Some(first) = definite.next() else { return };
    let text = |attempt: &Attempt| String::from_utf8_lossy(&attempt.body).into_owned();
    for later in definite {
        if later.outcome != first.outcome || later.body != first.body {
            let (first, later) = (text(first), text(later));
            violations.push(format!("the responses of {reference} differ: {first} and {later}"));
        }
        if are_marked && !later.replayed {
            violations.push(format!("a replay of {reference} is not marked as one"));
        }
    }
    if attempts[0].replayed {
        violations.push(format!("the first response of {reference} is marked as a replay"));
    }
}

/// Whether the outcome fits the amount of the order.
fn fits_amount(outcome: Outcome, amount: i64) -> bool {
    match outcome {
        Outcome::Done { amount: done, .. } => done == amount,
        Outcome::Declined { required, available } => required == amount && available < amount,
        Outcome::Expired | Outcome::Unknown | Outcome::Unexpected => true,
    }
}

/// Whether the order caused at most one hold, which matches the outcomes of the order and of the
/// request that closes the hold.
fn is_held(outcome: Outcome, amount: i64, closing: Option<&Closing>, holds: &[&Hold]) -> bool {
    let hold = match (outcome, holds) {
        (Outcome::Done { id, .. }, [hold]) if hold.hold_id == id => hold,
        (Outcome::Done { .. }, _) => return false,
        (Outcome::Declined { .. } | Outcome::Expired, holds) => return holds.is_empty(),
        (Outcome::Unknown | Outcome::Unexpected, holds) => return holds.len() <= 1,
    };
    let Some(Closing { captured, attempts }) = closing else { return false };
    let stored = (&*hold.status, hold.captured, hold.purchase_id);
    let matches_closing = match first_outcome(attempts) {
        Outcome::Done { id, .. } if captured.is_some() => {
            stored == ("captured", *captured, Some(id))
        }
        Outcome::Done { id, .. } => id == hold.hold_id && stored == ("voided", None, None),
        Outcome::Expired => stored == ("expired", None, None),
        Outcome::Declined { .. } => false,
        Outcome::Unknown | Outcome::Unexpected => true,
    };
    matches_closing && hold.amount == amount
}

/// Returns the outcome of the request that closes the hold.
fn closing_outcome(order: &Order) -> Option<Outcome> {
    order.closing.as_ref().map(|closing| first_outcome(&closing.attempts))
}

async fn rows<T>(pool: &PgPool, query: &'static str, account: Uuid) -> Vec<T>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as::<_, T>(query).bind(account).fetch_all(pool).await.expect("the rows can be read")
}
