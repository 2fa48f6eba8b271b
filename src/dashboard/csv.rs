//! The CSV files of the dashboard.

use std::sync::Arc;

use axum::response::Response;

use super::session::Visitor;
use crate::{
    domain::{
        account::ExternalId, id::KeyId, ledger_entry::SortOrder, tenant::Tenant,
        timestamp::Timestamp,
    },
    http::{Credential, CsvDownload, CsvLines, LINES_AT_ONCE},
    state::AppState,
    store::{EntryFilter, EntryRange, LedgerEntry, Purchase, Store, StoreError},
    web::csv::record,
};

const ENTRY_COLUMNS: [&str; 9] = [
    "seq",
    "created_at",
    "kind",
    "amount",
    "currency",
    "balance_after",
    "cause_id",
    "key_id",
    "reference",
];

const PURCHASE_COLUMNS: [&str; 9] = [
    "id",
    "created_at",
    "amount",
    "currency",
    "refunded",
    "balance_after",
    "reference",
    "description",
    "hold_id",
];

/// The lines that remain to be written, newest first.
pub enum Lines {
    Statement { filter: EntryFilter, range: EntryRange },
    Purchases { key_id: KeyId, since: Option<Timestamp>, before: Option<i64> },
    Done,
}

/// Responds with a file of these lines of the visitor's account.
pub fn download(state: &AppState, visitor: &Visitor, lines: Lines) -> Response {
    let (name, columns) = match &lines {
        Lines::Statement { .. } => ("statement.csv", ENTRY_COLUMNS),
        Lines::Purchases { .. } | Lines::Done => ("purchases.csv", PURCHASE_COLUMNS),
    };
    let download = CsvDownload {
        store: Arc::clone(state.store()),
        tenant: Arc::clone(&visitor.session().tenant),
        credential: Credential::Session(visitor.token().clone()),
        lines: Export { account: visitor.account().clone(), lines },
    };
    download.respond(name, &columns)
}

/// A file that is being streamed.
struct Export {
    account: ExternalId,
    lines: Lines,
}

impl CsvLines for Export {
    async fn read(&mut self, store: &Store, tenant: &Tenant) -> Result<String, StoreError> {
        let Self { account, lines } = self;
        match *lines {
            Lines::Statement { filter, range } => {
                let order = SortOrder::NewestFirst;
                let entries = store
                    .list_ledger_entries(tenant, account, &filter, range, order, LINES_AT_ONCE)
                    .await?;
                *lines = entries.last().map_or(Lines::Done, |last| {
                    let range = entries_before(range, last.seq);
                    Lines::Statement { filter, range }
                });
                Ok(entries.into_iter().map(|entry| record(&entry_fields(entry, tenant))).collect())
            }
            Lines::Purchases { key_id, since, before } => {
                let purchases = store
                    .list_purchases_since(tenant, account, key_id, since, before, LINES_AT_ONCE)
                    .await?;
                *lines = purchases.last().map_or(Lines::Done, |(seq, _)| Lines::Purchases {
                    key_id,
                    since,
                    before: Some(*seq),
                });
                let fields = |(_, purchase)| record(&purchase_fields(purchase, tenant));
                Ok(purchases.into_iter().map(fields).collect())
            }
            Lines::Done => Ok(String::new()),
        }
    }
}

/// Returns the part of a range before an entry.
pub fn entries_before(range: EntryRange, seq: i64) -> EntryRange {
    EntryRange { last: range.last.min(seq.saturating_sub(1)), ..range }
}

fn entry_fields(entry: LedgerEntry, tenant: &Tenant) -> [String; 9] {
    let currency = &tenant.policy.currency;
    [
        entry.seq.to_string(),
        entry.created_at.to_string(),
        entry.cause.kind().to_string(),
        currency.format(entry.amount).into(),
        currency.code().to_owned(),
        currency.format(entry.balance_after).into(),
        entry.cause.to_string(),
        entry.key_id.map(|id| id.to_string()).unwrap_or_default(),
        entry.reference.map(|reference| reference.to_string()).unwrap_or_default(),
    ]
}

fn purchase_fields(purchase: Purchase, tenant: &Tenant) -> [String; 9] {
    let currency = &tenant.policy.currency;
    [
        purchase.id.to_string(),
        purchase.created_at.to_string(),
        currency.format(purchase.amount).into(),
        currency.code().to_owned(),
        currency.format(purchase.refunded).into(),
        currency.format(purchase.balance_after).into(),
        purchase.reference.map(|reference| reference.to_string()).unwrap_or_default(),
        purchase.description.map(|description| description.to_string()).unwrap_or_default(),
        purchase.hold_id.map(|id| id.to_string()).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_before_an_entry_ends_at_the_previous_entry() {
        let range = EntryRange { after: 3, last: 9 };
        for (seq, last) in [(8, 7), (10, 9), (i64::MAX, 9), (0, -1), (i64::MIN, i64::MIN)] {
            assert_eq!(entries_before(range, seq), EntryRange { after: 3, last }, "{seq}");
        }
    }
}
