//! The balance and the ledger entries of the account, as a page and as a CSV file.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::named_keys,
    csv::{Lines, download, entries_before},
    events::Names,
    pages::{
        balance::{BalancePage, EntryRow, StatementFilters, kind_choices, kind_word},
        frame::Nav,
    },
    search::{self, MAX_CHARACTERS, Scan, Search},
    session::Visitor,
};
use crate::{
    domain::{
        id::KeyId,
        ledger_entry::{EntryKind, SortOrder},
    },
    state::AppState,
    store::{ApiKey, EntryFilter, EntryRange, LedgerEntry, Refusal, StoreError},
    web::{
        days::{parse_day, parse_end_of_day},
        failure::Failure,
        fields::Choice,
        format,
        forms::{Form, Query},
        links::link,
        respond::show_with,
    },
};

/// The parameters that select and order the entries.
const FILTERS: [&str; 6] = ["from", "to", "key", "kind", "q", "order"];

/// `GET /dashboard/balance`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn get(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(mut query): Query,
) -> Result<Response, Failure> {
    if let Some(redirect) = search::without_key("/dashboard/balance", &query) {
        return Ok(redirect);
    }
    let filter = read_filter(&mut query);
    let key = chosen_key(&state, &visitor, &mut query, &filter).await?;
    page(&state, &visitor, &query, filter, key).await
}

/// `GET /dashboard/balance.csv`: all entries that the filters select. If a filter is invalid,
/// responds with the page, which shows the errors.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn export(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(mut query): Query,
) -> Result<Response, Failure> {
    let filter = read_filter(&mut query);
    let key = chosen_key(&state, &visitor, &mut query, &filter).await?;
    if !query.is_right() {
        return page(&state, &visitor, &query, filter, key).await;
    }
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let range = state.store().find_entry_range(tenant, account, &filter).await?;
    Ok(download(&state, &visitor, Lines::Statement { filter, range }))
}

/// Reads the filters. Days are in UTC, and the range includes the last day.
fn read_filter(query: &mut Form) -> EntryFilter {
    let filter = EntryFilter {
        from: query.optional("from", parse_day),
        to: query.optional("to", parse_end_of_day),
        key_id: query.optional("key", |text| text.parse::<KeyId>().map_err(|_| "choose a key")),
        kind: query.optional("kind", |text| text.parse::<EntryKind>().map_err(|_| "choose a kind")),
    };
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from >= to
    {
        query.wrong("to", "must not be before the start date");
    }
    filter
}

/// Returns the key of the filter, which may be older than the keys that the form offers.
async fn chosen_key(
    state: &AppState,
    visitor: &Visitor,
    query: &mut Form,
    filter: &EntryFilter,
) -> Result<Option<ApiKey>, Failure> {
    let Some(key_id) = filter.key_id else { return Ok(None) };
    match state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await {
        Ok(key) => Ok(Some(key)),
        Err(StoreError::Refused(Refusal::NotFound)) => {
            query.wrong("key", "choose one of your keys");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    query: &Form,
    filter: EntryFilter,
    chosen: Option<ApiKey>,
) -> Result<Response, Failure> {
    let (store, tenant, currency) = (state.store(), visitor.tenant(), visitor.currency());
    let account = store.find_account(tenant, visitor.account()).await?;
    let mut keys = named_keys(state, visitor).await?;
    keys.extend(chosen.filter(|chosen| keys.iter().all(|key| key.id != chosen.id)));
    let search = Search::of(query);
    let (entries, next) = if query.is_right() {
        entries(state, visitor, query, filter, &search).await?
    } else {
        (Vec::new(), None)
    };
    let names = Names::of(visitor, &keys);
    let rows = entries.into_iter().map(|entry| row(visitor, &names, entry));
    let page = BalancePage {
        frame: visitor.form_frame("Balance", Nav::Balance, query),
        balance: format::amount(account.balance, currency),
        held: format::amount(account.held, currency),
        available: format::amount(account.balance - account.held, currency),
        has_holds: account.held > 0,
        filters: filters(query, &search, &keys),
        entries: rows.collect(),
        next_url: next.map(|seq| next_url(query, seq)),
        oldest_first: order(query) == SortOrder::OldestFirst,
        csv_url: csv_url(query),
    };
    let status = if query.is_right() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    show_with(status, &page)
}

async fn entries(
    state: &AppState,
    visitor: &Visitor,
    query: &Form,
    filter: EntryFilter,
    search: &Search,
) -> Result<(Vec<LedgerEntry>, Option<i64>), Failure> {
    let (store, tenant, account) = (state.store(), visitor.tenant(), visitor.account());
    let order = order(query);
    let whole = store.find_entry_range(tenant, account, &filter).await?;
    let mut scan = Scan::new(search, search::LENGTH, query.text("cursor").parse().ok());
    while let Some((position, limit)) = scan.next_read() {
        let range = match (position, order) {
            (None, _) => whole,
            (Some(seq), SortOrder::NewestFirst) => entries_before(whole, seq),
            (Some(seq), SortOrder::OldestFirst) => entries_after(whole, seq),
        };
        let entries =
            store.list_ledger_entries(tenant, account, &filter, range, order, limit).await?;
        scan.add(entries, |entry| entry.seq, |entry| is_found(search, entry));
    }
    Ok(scan.finish(|entry| entry.seq))
}

/// Whether the search matches the reference of the entry, or the id of its purchase, credit or
/// refund.
fn is_found(search: &Search, entry: &LedgerEntry) -> bool {
    let reference = entry.reference.as_ref().map(|reference| reference.as_str());
    search.matches(reference.into_iter().chain([entry.cause.to_string().as_str()]))
}

/// Returns the order of the statement. An unknown order means newest first.
fn order(query: &Form) -> SortOrder {
    query.text("order").parse().unwrap_or_default()
}

fn entries_after(range: EntryRange, seq: i64) -> EntryRange {
    EntryRange { after: range.after.max(seq), ..range }
}

fn row(visitor: &Visitor, names: &Names, entry: LedgerEntry) -> EntryRow {
    let currency = visitor.currency();
    EntryRow {
        at: format::moment(entry.created_at, None),
        kind: kind_word(entry.cause.kind()),
        amount: format::signed_amount(entry.amount, currency),
        incoming: entry.amount > 0,
        balance_after: format::amount(entry.balance_after, currency),
        key: entry.key_id.map(|key_id| names.link(key_id)),
        cause_id: entry.cause.to_string(),
        reference: entry.reference.map(|reference| reference.to_string()),
    }
}

fn filters(query: &Form, search: &Search, keys: &[ApiKey]) -> StatementFilters {
    let chosen = query.text("key");
    let key = |key: &ApiKey| {
        Choice::new(key.id.to_string(), format!("{} ({})", key.settings.name, key.hint), chosen)
    };
    let all_keys = Choice::new("", "All keys", chosen);
    let orders = [("", "Newest first"), ("asc", "Oldest first")];
    StatementFilters {
        from: query.field("from"),
        to: query.field("to"),
        key: std::iter::once(all_keys).chain(keys.iter().map(key)).collect(),
        key_error: query.error("key"),
        kind: kind_choices(query.text("kind")),
        kind_error: query.error("kind"),
        search: search.text().to_owned(),
        search_length: MAX_CHARACTERS,
        order: orders.map(|(value, label)| Choice::new(value, label, query.text("order"))).into(),
        active: FILTERS.iter().any(|name| !query.text(name).is_empty()),
    }
}

fn next_url(query: &Form, seq: i64) -> String {
    let mut parameters = FILTERS.map(|name| (name, query.text(name))).to_vec();
    let seq = seq.to_string();
    parameters.push(("cursor", &seq));
    link("/dashboard/balance", &parameters)
}

/// Returns the URL of the file with all entries that the filters select. The search text does not
/// restrict the file.
fn csv_url(query: &Form) -> String {
    let names = ["from", "to", "key", "kind"];
    link("/dashboard/balance.csv", &names.map(|name| (name, query.text(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_filters_select_whole_days_including_the_last_day() {
        let mut query = Form::parse(b"from=2026-11-01&to=2026-11-30&kind=purchase&key=");
        let filter = read_filter(&mut query);
        assert!(query.is_right());
        let shown = |at: Option<crate::domain::timestamp::Timestamp>| at.map(|at| at.to_string());
        assert_eq!(shown(filter.from).as_deref(), Some("2026-11-01T00:00:00.000000Z"));
        assert_eq!(shown(filter.to).as_deref(), Some("2026-12-01T00:00:00.000000Z"));
        assert_eq!((filter.kind, filter.key_id), (Some(EntryKind::Purchase), None));
        assert_eq!(
            csv_url(&query),
            "/dashboard/balance.csv?from=2026-11-01&to=2026-11-30&kind=purchase"
        );
    }

    #[test]
    fn every_invalid_filter_has_an_error() {
        let mut query = Form::parse(b"from=x&to=y&kind=z&key=key_1");
        read_filter(&mut query);
        let wrong = query.errors().iter().filter_map(|error| error.field.as_deref());
        let wrong: Vec<_> = wrong.collect();
        assert_eq!(wrong, ["from", "to", "key", "kind"]);
        let mut query = Form::parse(b"from=2026-11-02&to=2026-11-01");
        read_filter(&mut query);
        assert!(query.error("to").is_some());
        let mut query = Form::parse(b"from=2026-11-02&to=2026-11-02");
        read_filter(&mut query);
        assert!(query.is_right());
    }
}
