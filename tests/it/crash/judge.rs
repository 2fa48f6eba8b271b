//! What the database says of an account, against what its clients sent and were told.

use std::{collections::HashMap, time::Instant};

use sqlx::{FromRow, PgPool, postgres::PgRow};
use uuid::Uuid;

use super::record::{Closing, Kind, Order, Sent, Told, span, told};

/// What there is of one account, by `seq`.
struct Books {
    balance: i64,
    held: i64,
    last_seq: i64,
    entries: Vec<Entry>,
    made: Vec<Made>,
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
struct Made {
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

/// What is remembered for an Idempotency-Key.
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

/// What belongs to one order.
#[derive(Default)]
struct Found<'a> {
    made: Vec<&'a Made>,
    holds: Vec<&'a Hold>,
    record: Option<&'a Record>,
}

/// Something that was decided.
struct Decided<'a> {
    /// The `seq` of its entry; or that of the entry before it, and that it has none.
    place: (i64, bool),
    begun: Instant,
    answered: Instant,
    reference: &'a str,
}

/// Everything about an account that is not as it must be. Nothing may be under way any more.
pub async fn judge(pool: &PgPool, account: &str, orders: &[&Order]) -> Vec<String> {
    let books = Books::read(pool, account).await;
    let mut wrong = Vec::new();
    books.check_chain(&mut wrong);
    books.check_orders(orders, &mut wrong);
    books.check_time(orders, &mut wrong);
    for order in orders {
        let reference = &order.reference;
        check_answers(reference, &order.sent, true, &mut wrong);
        if let Some(Closing { captured, sent }) = &order.closing {
            // To void a hold once more is no replay: it is void.
            check_answers(reference, sent, captured.is_some(), &mut wrong);
        }
    }
    wrong.into_iter().map(|wrong| format!("{account}: {wrong}")).collect()
}

impl Books {
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
        let made = "SELECT purchase_id AS id, 'purchase' AS kind, seq, amount, reference, hold_id
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
            made: rows(pool, made, id).await,
            holds: rows(pool, holds, id).await,
            records: rows(pool, records, id).await,
        }
    }

    /// The entries are gapless and chained, sum to the balance, and each has its cause.
    fn check_chain(&self, wrong: &mut Vec<String>) {
        let made: HashMap<Uuid, &Made> = self.made.iter().map(|made| (made.id, made)).collect();
        let mut balance = 0_i64;
        for (place, entry) in (1..).zip(&self.entries) {
            let Entry { seq, kind, amount, balance_after, cause_id } = entry;
            if *seq != place {
                wrong.push(format!("seq {seq} stands at place {place}"));
            }
            if balance + amount != *balance_after || *balance_after < 0 {
                wrong.push(format!("at seq {seq} {balance} and {amount} make {balance_after}"));
            }
            balance = *balance_after;
            let caused = made.get(cause_id).is_some_and(|made| {
                let sign = if kind == "purchase" { -1 } else { 1 };
                made.seq == *seq && made.kind == *kind && made.amount * sign == *amount
            });
            if !caused {
                wrong.push(format!("seq {seq} is a {kind} of {amount}, and {cause_id} is not"));
            }
        }
        let sum = self.entries.iter().map(|entry| entry.amount).sum::<i64>();
        let count = self.entries.len();
        if self.balance != sum || self.balance != balance {
            wrong.push(format!("the balance is {}, its entries {sum}", self.balance));
        }
        if usize::try_from(self.last_seq) != Ok(count) || self.made.len() != count {
            let (last_seq, made) = (self.last_seq, self.made.len());
            wrong.push(format!("last_seq is {last_seq}, of {count} entries and {made} causes"));
        }
        let open = self.holds.iter().filter(|hold| hold.status == "open");
        let open = open.map(|hold| hold.amount).sum::<i64>();
        if self.held != open {
            wrong.push(format!("{} are held, and open are {open}", self.held));
        }
    }

    /// What each order was told is there, once; and nothing else is.
    fn check_orders(&self, orders: &[&Order], wrong: &mut Vec<String>) {
        let mut found: HashMap<&str, Found<'_>> = HashMap::new();
        for made in &self.made {
            let reference = made.reference.as_deref().unwrap_or_default();
            found.entry(reference).or_default().made.push(made);
        }
        for hold in &self.holds {
            let reference = hold.reference.as_deref().unwrap_or_default();
            found.entry(reference).or_default().holds.push(hold);
        }
        let mut records: HashMap<_, _> =
            self.records.iter().map(|record| (record.key(), record)).collect();
        for order in orders {
            let mut found = found.remove(&*order.reference).unwrap_or_default();
            let key = order.idempotency_key.as_deref();
            found.record = key.and_then(|key| records.remove(&(order.kind.as_str(), key)));
            self.check_order(order, &found, wrong);
        }
        for Found { made, holds, .. } in found.values() {
            wrong.push(format!("nobody asked for {made:?} {holds:?}"));
        }
        wrong.extend(records.values().map(|record| format!("nobody asked for {record:?}")));
    }

    fn check_order(&self, order: &Order, found: &Found<'_>, wrong: &mut Vec<String>) {
        let (reference, amount, answer) = (&order.reference, order.amount, told(&order.sent));
        if !fits_amount(answer, amount) {
            wrong.push(format!("{reference} is for {amount}, and was told {answer:?}"));
        }
        let is_remembered =
            order.idempotency_key.is_none() || self.is_remembered(answer, amount, found.record);
        if !is_remembered {
            let record = found.record;
            wrong.push(format!("{reference} was told {answer:?}, and remembered is {record:?}"));
        }
        if order.kind != Kind::Hold {
            if !self.is_made(answer, amount, None, &found.made) || !found.holds.is_empty() {
                let Found { made, holds, .. } = found;
                wrong.push(format!(
                    "{reference} was told {answer:?}, and made are {made:?} {holds:?}"
                ));
            }
            return;
        }
        if !is_held(answer, amount, order.closing.as_ref(), &found.holds) {
            let (closing, holds) = (closed(order), &found.holds);
            wrong.push(format!("{reference} was told {answer:?} {closing:?}, held are {holds:?}"));
        }
        let hold_id = found.holds.first().map(|hold| hold.hold_id);
        let is_bought = match &order.closing {
            Some(Closing { captured: Some(amount), sent }) => {
                fits_amount(told(sent), *amount)
                    && self.is_made(told(sent), *amount, hold_id, &found.made)
            }
            _ => found.made.is_empty(),
        };
        if !is_bought {
            let (closing, made) = (closed(order), &found.made);
            wrong.push(format!("{reference} was told {closing:?}, and bought are {made:?}"));
        }
    }

    /// Whether there is of a purchase or a credit what it was told, and at most one.
    fn is_made(&self, told: Told, amount: i64, hold_id: Option<Uuid>, made: &[&Made]) -> bool {
        let as_asked = made.iter().all(|made| made.amount == amount && made.hold_id == hold_id);
        let as_told = match (told, made) {
            (Told::Done { id, balance_after, .. }, [made]) => {
                let after = self.balance_at(made.seq);
                made.id == id && balance_after.is_none_or(|told| after == Some(told))
            }
            (Told::Done { .. }, _) => false,
            (Told::Declined { .. } | Told::Expired, made) => made.is_empty(),
            (Told::Nothing | Told::Wrong, made) => made.len() <= 1,
        };
        as_asked && as_told
    }

    /// Whether what is remembered for an Idempotency-Key is what was told; and a decline was right
    /// where it stands in the order of the ledger.
    fn is_remembered(&self, told: Told, amount: i64, record: Option<&Record>) -> bool {
        match (told, record) {
            (Told::Done { id, .. }, Some(record)) => record.cause_id == Some(id),
            (Told::Declined { required, available }, Some(record)) => {
                let there = record.seq.and_then(|seq| self.balance_at(seq));
                let there = there.zip(record.held).map(|(balance, held)| balance - held);
                record.cause_id.is_none()
                    && (record.required, record.available) == (Some(required), Some(available))
                    && there == Some(available)
                    && amount > available
            }
            (Told::Done { .. } | Told::Declined { .. }, None) => false,
            (Told::Expired | Told::Nothing | Told::Wrong, _) => true,
        }
    }

    /// What was over before another was begun stands before it.
    fn check_time(&self, orders: &[&Order], wrong: &mut Vec<String>) {
        let mut decided = self.decided(orders);
        decided.sort_by_key(|decided| decided.place);
        // Of all that stand before, the one that was begun last.
        let mut latest: Option<&Decided<'_>> = None;
        for at_one_place in decided.chunk_by(|one, next| one.place == next.place) {
            for later in at_one_place {
                if let Some(earlier) = latest.filter(|earlier| later.answered < earlier.begun) {
                    let (one, other) = (later.reference, earlier.reference);
                    let (place, before) = (later.place, earlier.place);
                    wrong.push(format!(
                        "{one} was answered before {other} was begun, but stands behind it: \
                         {place:?}, {before:?}"
                    ));
                }
            }
            latest = at_one_place.iter().chain(latest).max_by_key(|decided| decided.begun);
        }
    }

    /// All of which it is known where it stands.
    fn decided<'a>(&self, orders: &[&'a Order]) -> Vec<Decided<'a>> {
        let seqs: HashMap<Uuid, i64> = self.made.iter().map(|made| (made.id, made.seq)).collect();
        let records: HashMap<_, _> =
            self.records.iter().map(|record| (record.key(), record)).collect();
        let mut decided = Vec::new();
        for &order in orders {
            let closing = order.closing.as_ref().map(|closing| &closing.sent);
            for sent in std::iter::once(&order.sent).chain(closing) {
                let place = match told(sent) {
                    // A hold has no entry.
                    Told::Done { id, .. } => seqs.get(&id).map(|seq| (*seq, false)),
                    Told::Declined { .. } => {
                        let key = order.idempotency_key.as_deref();
                        let record = key.and_then(|key| records.get(&(order.kind.as_str(), key)));
                        record.and_then(|record| record.seq).map(|seq| (seq, true))
                    }
                    Told::Expired | Told::Nothing | Told::Wrong => None,
                };
                if let Some((place, (begun, answered))) = place.zip(span(sent)) {
                    decided.push(Decided { place, begun, answered, reference: &order.reference });
                }
            }
        }
        decided
    }

    fn balance_at(&self, seq: i64) -> Option<i64> {
        match usize::try_from(seq).ok()?.checked_sub(1) {
            None => Some(0),
            Some(place) => self.entries.get(place).map(|entry| entry.balance_after),
        }
    }
}

impl Record {
    fn key(&self) -> (&str, &str) {
        (&self.operation, &self.idempotency_key)
    }
}

/// Whether the answers to requests for the same are the same, and all but the first say so.
fn check_answers(reference: &str, sent: &[Sent], are_marked: bool, wrong: &mut Vec<String>) {
    let is_definite = |sent: &&Sent| matches!(sent.told, Told::Done { .. } | Told::Declined { .. });
    let mut answers = sent.iter().filter(is_definite);
    let Some(first) = answers.next() else { return };
    let text = |sent: &Sent| String::from_utf8_lossy(&sent.body).into_owned();
    for answer in answers {
        if answer.told != first.told || answer.body != first.body {
            let (first, answer) = (text(first), text(answer));
            wrong.push(format!("{reference} was told {first}, and then {answer}"));
        }
        if are_marked && !answer.replayed {
            wrong.push(format!("{reference} was told again, and not that it was so"));
        }
    }
    if sent[0].replayed {
        wrong.push(format!("{reference} was told of a replay at once"));
    }
}

/// Whether an answer is one to a request for so much.
fn fits_amount(told: Told, amount: i64) -> bool {
    match told {
        Told::Done { amount: told, .. } => told == amount,
        Told::Declined { required, available } => required == amount && available < amount,
        Told::Expired | Told::Nothing | Told::Wrong => true,
    }
}

/// Whether there is of a hold what it and its end were told, and at most one.
fn is_held(told_of_it: Told, amount: i64, closing: Option<&Closing>, holds: &[&Hold]) -> bool {
    let hold = match (told_of_it, holds) {
        (Told::Done { id, .. }, [hold]) if hold.hold_id == id => hold,
        (Told::Done { .. }, _) => return false,
        (Told::Declined { .. } | Told::Expired, holds) => return holds.is_empty(),
        (Told::Nothing | Told::Wrong, holds) => return holds.len() <= 1,
    };
    let Some(Closing { captured, sent }) = closing else { return false };
    let is = (&*hold.status, hold.captured, hold.purchase_id);
    let as_told = match told(sent) {
        Told::Done { id, .. } if captured.is_some() => is == ("captured", *captured, Some(id)),
        Told::Done { id, .. } => id == hold.hold_id && is == ("voided", None, None),
        Told::Expired => is == ("expired", None, None),
        Told::Declined { .. } => false,
        Told::Nothing | Told::Wrong => true,
    };
    as_told && hold.amount == amount
}

/// What the end of a hold was told.
fn closed(order: &Order) -> Option<Told> {
    order.closing.as_ref().map(|closing| told(&closing.sent))
}

async fn rows<T>(pool: &PgPool, query: &'static str, account: Uuid) -> Vec<T>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    sqlx::query_as::<_, T>(query).bind(account).fetch_all(pool).await.expect("they can be read")
}
