//! The purchases of a key, as a page and as a CSV file.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    csv::{Lines, download},
    key_in_path::KeyInPath,
    pages::{
        frame::Nav,
        purchases::{PurchaseTable, PurchasesPage},
    },
    search::{self, Scan, Search},
    session::Visitor,
    views::{key_head, purchase_table, purchases_url},
};
use crate::{
    domain::{id::KeyId, timestamp::Timestamp},
    state::AppState,
    store::{ApiKey, Purchase, StoreError},
    web::{
        days::parse_moment,
        failure::Failure,
        forms::{Form, Query},
        links::link,
        respond::show_with,
    },
};

/// `GET /dashboard/keys/{key_id}/purchases`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
    Query(mut query): Query,
) -> Result<Response, Failure> {
    if let Some(redirect) = search::without_key(&purchases_url(key_id), &query) {
        return Ok(redirect);
    }
    let since = query.optional("since", parse_moment);
    page(&state, &visitor, key_id, &query, since).await
}

/// `GET /dashboard/keys/{key_id}/purchases.csv`: all purchases since a moment. If the moment is
/// invalid, responds with the page, which shows the error.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn export(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
    Query(mut query): Query,
) -> Result<Response, Failure> {
    let since = query.optional("since", parse_moment);
    if !query.is_right() {
        return page(&state, &visitor, key_id, &query, since).await;
    }
    // Checks that the key belongs to the account before the file begins.
    state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    Ok(download(&state, &visitor, Lines::Purchases { key_id, since, before: None }))
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    key_id: KeyId,
    query: &Form,
    since: Option<Timestamp>,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let start = query.text("cursor").parse().ok();
    let since_text = query.text("since");
    let search = Search::of(query);
    let page = PurchasesPage {
        frame: visitor.form_frame("Purchases", Nav::Keys, query),
        since: query.field("since"),
        table: table(
            state,
            visitor,
            &key,
            Since { moment: since, text: since_text },
            &search,
            start,
        )
        .await?,
        search: search.text().to_owned(),
        search_length: search::MAX_CHARACTERS,
        csv_url: csv_url(key_id, since_text),
        key: key_head(&key),
    };
    let status = if query.is_right() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    show_with(status, &page)
}

/// The time from which a page lists purchases, as a moment and as the viewer typed it.
#[derive(Clone, Copy)]
pub struct Since<'a> {
    /// The earliest moment of the list. `None` if the list contains all purchases.
    pub moment: Option<Timestamp>,
    /// The viewer's input. Each link to further purchases repeats it.
    pub text: &'a str,
}

/// Returns a table with the purchases of a key that match a search. The table begins after the
/// purchase at `start`.
pub async fn table(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    since: Since<'_>,
    search: &Search,
    start: Option<i64>,
) -> Result<PurchaseTable, StoreError> {
    let (store, tenant, account) = (state.store(), visitor.tenant(), visitor.account());
    let mut scan = Scan::new(search, search::LENGTH, start);
    while let Some((before, limit)) = scan.next_read() {
        let purchases = store
            .list_purchases_since(tenant, account, key.id, since.moment, before, limit)
            .await?;
        scan.add(purchases, |(seq, _)| *seq, |(_, purchase)| is_found(search, purchase));
    }
    let (purchases, next) = scan.finish(|(seq, _)| *seq);
    let empty = match (search.is_active(), next, since.moment) {
        (true, Some(_), _) => {
            "No match in the purchases searched so far. Search older purchases below."
        }
        (true, None, _) => "No purchases match.",
        (false, _, Some(_)) => "No purchases since this date.",
        (false, _, None) => "No purchases yet.",
    };
    let older = next.map(|seq| {
        let parameters =
            [("since", since.text), ("q", search.text()), ("cursor", &seq.to_string())];
        link(&purchases_url(key.id), &parameters)
    });
    Ok(purchase_table(purchases, visitor.currency(), empty, older))
}

fn is_found(search: &Search, purchase: &Purchase) -> bool {
    let id = purchase.id.to_string();
    let reference = purchase.reference.as_ref().map(|reference| reference.as_str());
    let description = purchase.description.as_ref().map(|description| description.as_str());
    search.matches(reference.into_iter().chain(description).chain([id.as_str()]))
}

/// Returns the URL of the page with the purchases since a moment.
pub fn page_url(key_id: KeyId, since: &str) -> String {
    link(&purchases_url(key_id), &[("since", since)])
}

/// Returns the URL of the CSV file with the purchases since a moment.
pub fn csv_url(key_id: KeyId, since: &str) -> String {
    link(&format!("{}.csv", purchases_url(key_id)), &[("since", since)])
}
