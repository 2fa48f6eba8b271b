//! The security log: the audit events of the account and its keys.

use axum::{extract::State, response::Response};

use super::{
    account_keys::named_keys,
    events::{self, Names},
    pages::{frame::Nav, security_log::SecurityLogPage},
    session::Visitor,
    views::to_fetch,
};
use crate::{
    domain::id::AuditEventId,
    state::AppState,
    store::AuditFilter,
    web::{failure::Failure, forms::Query, links::link, respond::show},
};

/// Events on a page.
const LENGTH: usize = 50;

/// `GET /dashboard/log`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn get(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    let filter = AuditFilter { account: Some(visitor.account().clone()), key_id: None };
    let before: Option<AuditEventId> = query.text("cursor").parse().ok();
    let limit = to_fetch(LENGTH);
    let acts = state.store().list_audit_events(visitor.tenant(), &filter, before, limit).await?;
    let names = Names::of(&visitor, &named_keys(&state, &visitor).await?);
    let earlier = |id: AuditEventId| link("/dashboard/log", &[("cursor", &id.to_string())]);
    let events = events::table(&visitor, acts, LENGTH, &names, earlier);
    show(&SecurityLogPage { frame: visitor.frame("Security log", Nav::SecurityLog), events })
}
