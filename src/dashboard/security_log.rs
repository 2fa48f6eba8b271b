//! The security log: the audit events of the account and its keys.

use axum::{extract::State, response::Response};

use super::{
    account_keys::named_keys,
    events::{self, Names},
    pages::{
        frame::Nav,
        security_log::{EventRow, EventTable, SecurityLogPage},
    },
    search::{self, Scan, Search},
    session::Visitor,
};
use crate::{
    domain::id::AuditEventId,
    state::AppState,
    store::AuditFilter,
    web::{failure::Failure, forms::Query, links::link, respond::show},
};

const PATH: &str = "/dashboard/log";

/// `GET /dashboard/log`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn get(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    if let Some(redirect) = search::without_key(PATH, &query) {
        return Ok(redirect);
    }
    let filter = AuditFilter { account: Some(visitor.account().clone()), key_id: None };
    let start: Option<AuditEventId> = query.text("cursor").parse().ok();
    let names = Names::of(&visitor, &named_keys(&state, &visitor).await?);
    let search = Search::of(&query);
    let mut scan = Scan::new(&search, search::LENGTH, start);
    while let Some((before, limit)) = scan.next_read() {
        let events =
            state.store().list_audit_events(visitor.tenant(), &filter, before, limit).await?;
        let rows = events
            .into_iter()
            .map(|event| (event.id, events::row(&visitor, event, &names)))
            .collect();
        scan.add(rows, |(id, _)| *id, |(_, row)| is_found(&search, row));
    }
    let (rows, next) = scan.finish(|(id, _)| *id);
    let label = "Search by event, key, detail or address";
    let empty = match (search.is_active(), next) {
        (true, Some(_)) => "No match in the events searched so far. Search older events below.",
        (true, None) => "No events match.",
        (false, _) => "No events yet.",
    };
    show(&SecurityLogPage {
        frame: visitor.frame("Security log", Nav::SecurityLog),
        search: search::form(&query, &search, PATH, label, &[], Vec::new()),
        events: EventTable {
            rows: rows.into_iter().map(|(_, row)| row).collect(),
            of_one_key: false,
            empty: empty.to_owned(),
            next_url: next
                .map(|id| link(PATH, &[("q", search.text()), ("cursor", &id.to_string())])),
        },
    })
}

fn is_found(search: &Search, row: &EventRow) -> bool {
    let key = row.key.as_ref().map(|key| key.label.as_str());
    let details = row.details.iter().map(String::as_str);
    let texts = [row.what.as_str(), row.who.as_str()].into_iter();
    search.matches(texts.chain(details).chain(key).chain(row.address.as_deref()))
}
