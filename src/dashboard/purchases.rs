//! The purchases of a key, as a page and as a CSV file.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    csv::{Lines, download},
    key_in_path::KeyInPath,
    pages::{
        frame::Nav,
        purchases::{PurchaseTable, PurchasesPage},
    },
    session::Visitor,
    views::{key_head, purchase_table, purchases_url, to_fetch},
};
use crate::{
    domain::{id::KeyId, timestamp::Timestamp},
    state::AppState,
    store::{ApiKey, StoreError},
    web::{
        days::parse_moment,
        failure::Failure,
        forms::{Form, Query},
        links::link,
        respond::show_with,
    },
};

/// Purchases on a page.
const LENGTH: usize = 50;

/// `GET /dashboard/keys/{key_id}/purchases`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
    Query(mut query): Query,
) -> Result<Response, Failure> {
    let since = query.optional("since", parse_moment);
    page(&state, &visitor, key_id, &query, since).await
}

/// `GET /dashboard/keys/{key_id}/purchases.csv`: the same, whole. What is wrong is said on the page.
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
    // Whose it is, before anything of it is sent.
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
    let before = query.text("cursor").parse().ok();
    let text = query.text("since");
    let page = PurchasesPage {
        frame: visitor.form_frame("Purchases", Nav::Keys, query),
        since: query.field("since"),
        table: table(state, visitor, &key, since, text, before).await?,
        csv_url: csv_url(key_id, text),
        key: key_head(&key),
    };
    let status = if query.is_right() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    show_with(status, &page)
}

/// What a key has bought since a moment, as it was typed too, for the link to older ones.
pub async fn table(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    since: Option<Timestamp>,
    since_text: &str,
    before: Option<i64>,
) -> Result<PurchaseTable, StoreError> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let limit = to_fetch(LENGTH);
    let purchases =
        state.store().list_purchases_since(tenant, account, key.id, since, before, limit).await?;
    let empty = match since {
        Some(_) => "This key has bought nothing since then.",
        None => "This key has not bought anything.",
    };
    let older = |seq: i64| {
        let path = purchases_url(key.id);
        link(&path, &[("since", since_text), ("cursor", &seq.to_string())])
    };
    Ok(purchase_table(purchases, LENGTH, visitor.currency(), empty, older))
}

/// The page of what a key has bought since a moment.
pub fn page_url(key_id: KeyId, since: &str) -> String {
    link(&purchases_url(key_id), &[("since", since)])
}

/// The same as a file.
pub fn csv_url(key_id: KeyId, since: &str) -> String {
    link(&format!("{}.csv", purchases_url(key_id)), &[("since", since)])
}
