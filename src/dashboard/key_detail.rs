//! The page that shows the settings, the usage, the purchases and the audit events of a key.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::LastUses,
    events::{self, Names},
    holds,
    key_claims::is_done,
    key_clients::client_tables,
    key_fields::facts,
    key_in_path::KeyInPath,
    limit_table::limit_table,
    pages::{
        frame::{FormError, Frame, Nav},
        holds::HoldTable,
        key_detail::{Figure, KeyDetailPage, KeyView, RevokedView},
        key_views::Access,
        security_log::EventTable,
    },
    session::Visitor,
    views::{
        cut, expires_soon, key_head, key_state, key_url, purchase_table, purchases_url, to_fetch,
    },
};
use crate::{
    auth::Problem,
    domain::{
        dashboard::DashboardRight,
        hold::HoldStatus,
        id::{AuditEventId, KeyId},
        lifecycle::KeyStatus,
        timestamp::Timestamp,
        usage::{Granularity, OutcomeCounts, UsageOutcome, UsageRange},
    },
    state::AppState,
    store::{
        ACTIVITY_HOURS, ApiKey, AuditFilter, HoldFilter, PurchasesByHour, Refusal, StoreError,
    },
    web::{
        chart::{Chart, Step, bar_chart},
        failure::Failure,
        format,
        forms::{Form, Query},
        links::{Link, link},
        respond::show_with,
    },
};

/// Maximum number of open holds on the page. Another page lists all of them.
const HOLDS: usize = 10;

/// Maximum number of purchases on the page. Another page lists all of them.
const PURCHASES: usize = 10;

/// Maximum number of events on the page.
const EVENTS: usize = 20;

/// `GET /dashboard/keys/{key_id}`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn get(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
    Query(query): Query,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    let frame = if is_done(&visitor, &key, &query) {
        visitor.frame_after("", Nav::Keys, &query)
    } else {
        visitor.frame("", Nav::Keys)
    };
    page(&state, &visitor, &key, &query, frame, StatusCode::OK).await
}

/// Responds with the key's page and the reason why the change was refused.
pub async fn refused(
    state: &AppState,
    visitor: &Visitor,
    key_id: KeyId,
    error: StoreError,
) -> Result<Response, Failure> {
    let text = match error {
        StoreError::Refused(Refusal::KeyNotLive) => {
            "This key is revoked or expired, so you cannot change it. Create a new key instead."
        }
        StoreError::Refused(Refusal::KeyAlreadyRotated) => {
            "This key was already rotated. Rotate its replacement instead. This key stops working \
             when its grace period ends."
        }
        error => return Err(error.into()),
    };
    let errors = vec![FormError { field: None, label: None, text: text.to_owned() }];
    let frame = Frame { errors, ..visitor.frame("", Nav::Keys) };
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    page(state, visitor, &key, &Form::default(), frame, StatusCode::CONFLICT).await
}

async fn page(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    query: &Form,
    frame: Frame,
    status: StatusCode,
) -> Result<Response, Failure> {
    let (store, tenant, account) = (state.store(), visitor.tenant(), visitor.account());
    let url = key_url(key.id);
    let usage = Usage::read(state, visitor, key).await?;
    let (purchases, events) = if visitor.may(DashboardRight::Audit) {
        let before = query.text("cursor").parse().ok();
        let limit = to_fetch(PURCHASES);
        let mut purchases =
            store.list_purchases(tenant, account, Some(key.id), before, limit).await?;
        let older = cut(&mut purchases, PURCHASES)
            .map(|(seq, _)| link(&url, &[("cursor", &seq.to_string())]));
        let filter = AuditFilter { account: Some(account.clone()), key_id: Some(key.id) };
        let before: Option<AuditEventId> = query.text("events").parse().ok();
        let mut acts = store.list_audit_events(tenant, &filter, before, to_fetch(EVENTS)).await?;
        let earlier =
            cut(&mut acts, EVENTS).map(|event| link(&url, &[("events", &event.id.to_string())]));
        let nothing_bought = "No purchases yet.";
        let currency = visitor.currency();
        let purchases = purchase_table(purchases, currency, nothing_bought, older);
        let names = Names::none(visitor);
        let rows = acts.into_iter().map(|event| events::row(visitor, event, &names)).collect();
        let events = EventTable {
            rows,
            of_one_key: true,
            empty: "No events yet.".to_owned(),
            next_url: earlier,
        };
        (Some(purchases), Some(events))
    } else {
        (None, None)
    };
    let page = KeyDetailPage {
        frame: Frame { title: key.settings.name.to_string(), ..frame },
        figures: usage.figures(visitor),
        charts: usage.charts(visitor),
        limits: limit_table(state, visitor, key).await,
        clients: client_tables(state, visitor, key).await,
        holds: open_holds(state, visitor, key.id).await?,
        purchases,
        purchases_url: purchases_url(key.id),
        events,
        key: view(state, visitor, key).await?,
    };
    show_with(status, &page)
}

async fn open_holds(
    state: &AppState,
    visitor: &Visitor,
    key_id: KeyId,
) -> Result<HoldTable, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let filter = HoldFilter { status: Some(HoldStatus::Open), key_id: Some(key_id) };
    let limit = to_fetch(HOLDS);
    let mut holds = state.store().list_holds(tenant, account, &filter, None, limit).await?;
    let more = cut(&mut holds, HOLDS).is_some();
    let names = Names::none(visitor);
    Ok(HoldTable {
        rows: holds.into_iter().map(|hold| holds::row(visitor, hold, &names)).collect(),
        of_one_key: true,
        empty: String::new(),
        previous_url: None,
        next_url: more.then(|| holds::url_of_key(key_id)),
    })
}

async fn view(state: &AppState, visitor: &Visitor, key: &ApiKey) -> Result<KeyView, Failure> {
    let now = visitor.now();
    let live = key.status == KeyStatus::Live;
    let may = live && !visitor.is_suspended();
    let soon = expires_soon(key, now);
    let last_used = LastUses::read(state, visitor, std::slice::from_ref(key)).await.of(key);
    let of_account = state.store().find_account(visitor.tenant(), visitor.account()).await?;
    Ok(KeyView {
        head: key_head(key),
        access: Access::of(key.settings.scopes.to_strings()),
        state: key_state(key, visitor.is_suspended()),
        created: format::moment(key.created_at, None),
        last_used: last_used.map(|at| format::moment(at, Some(now))),
        expires: key.settings.expires_at.map(|at| format::moment(at, Some(now))),
        expires_soon: soon,
        facts: facts(&key.settings, of_account.allowed_ips.as_ref(), visitor.currency()),
        revoked: key.revoked_at.map(|at| RevokedView {
            at: format::moment(at, Some(now)),
            reason: key.revoked_reason.as_deref().map(str::to_owned),
        }),
        rotated_from: link_to(state, visitor, key.rotated_from).await?,
        rotated_to: link_to(state, visitor, key.rotated_to).await?,
        can_change: may,
        can_lower_limits: may && visitor.may_lower_limits(),
        can_disable: live && key.settings.enabled,
        can_enable: may && !key.settings.enabled,
        can_rotate: may && key.rotated_to.is_none(),
        can_revoke: live,
    })
}

async fn link_to(
    state: &AppState,
    visitor: &Visitor,
    key_id: Option<KeyId>,
) -> Result<Option<Link>, Failure> {
    let Some(key_id) = key_id else { return Ok(None) };
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    Ok(Some(Link { label: key.hint, url: key_url(key_id) }))
}

/// The usage of a key per hour and per day, oldest first.
struct Usage {
    hours: Vec<(Timestamp, OutcomeCounts)>,
    days: Vec<(Timestamp, OutcomeCounts)>,
    purchases: PurchasesByHour,
}

impl Usage {
    async fn read(state: &AppState, visitor: &Visitor, key: &ApiKey) -> Result<Self, Failure> {
        let (tenant, account) = (visitor.tenant(), visitor.account());
        let purchases = state.store().key_purchases_by_hour(tenant, account, key.id).await?;
        let mut hours = steps(state, visitor, key.id, Granularity::Hour).await?;
        let mut days = steps(state, visitor, key.id, Granularity::Day).await?;
        count_purchases_as_calls(&mut hours, &mut days, &purchases);
        Ok(Self { hours, days, purchases })
    }

    fn figures(&self, visitor: &Visitor) -> Vec<Figure> {
        let calls = |count: fn(&OutcomeCounts) -> i64| -> i64 {
            self.hours.iter().map(|(_, counts)| count(counts)).sum()
        };
        let figure = |value: String, label: &str| Figure { value, label: label.to_owned() };
        let mut figures = vec![
            figure(format::count(calls(passed)), "calls accepted in the last 24 hours"),
            figure(format::count(calls(refused_calls)), "calls refused in the last 24 hours"),
        ];
        if visitor.may(DashboardRight::Audit) {
            let at_least = if self.purchases.truncated { "at least " } else { "" };
            let spent = format::amount(self.purchases.total_spent(), visitor.currency());
            figures.push(figure(format!("{at_least}{spent}"), "spent in the last 24 hours"));
        }
        figures
    }

    fn charts(&self, visitor: &Visitor) -> Vec<Chart> {
        let calls = |steps: &[(Timestamp, OutcomeCounts)], label: fn(Timestamp) -> String| {
            let step = |(start, counts): &(Timestamp, OutcomeCounts)| {
                let total = counts.total();
                Step { label: label(*start), value: total, shown: format::count(total) }
            };
            steps.iter().map(step).collect::<Vec<_>>()
        };
        let hours = calls(&self.hours, format::hour_words);
        let days = calls(&self.days, format::day_words);
        let by_hour = "Calls per hour in the last 24 hours, including refused calls";
        let by_day = "Calls per day (UTC) in the last 30 days, including refused calls";
        let mut charts = vec![bar_chart("calls", by_hour, "Calls", &hours)];
        if visitor.may(DashboardRight::Audit) {
            charts.push(self.spend_chart(visitor));
        }
        charts.push(bar_chart("calls-by-day", by_day, "Calls", &days));
        charts
    }

    fn spend_chart(&self, visitor: &Visitor) -> Chart {
        let step = |((start, _), spent): (&(Timestamp, OutcomeCounts), &i64)| Step {
            label: format::hour_words(*start),
            value: *spent,
            shown: format::amount(*spent, visitor.currency()),
        };
        let steps: Vec<Step> = self.hours.iter().zip(&self.purchases.spent).map(step).collect();
        let title = if self.purchases.truncated {
            "Spending per hour in the last 24 hours (newest 100,000 purchases only)"
        } else {
            "Spending per hour in the last 24 hours"
        };
        bar_chart("spend", title, "Spending", &steps)
    }
}

/// Raises the number of calls in each step to at least the number of purchases. Each purchase is a
/// call, but nodes write their counts of calls a few seconds late.
fn count_purchases_as_calls(
    hours: &mut [(Timestamp, OutcomeCounts)],
    days: &mut [(Timestamp, OutcomeCounts)],
    purchases: &PurchasesByHour,
) {
    for (hour, (start, counts)) in hours.iter_mut().enumerate().take(ACTIVITY_HOURS) {
        let missing = purchases.missing_calls(hour, passed(counts));
        counts.add(UsageOutcome::Valid, missing);
        if let Some((_, day)) = days.iter_mut().rev().find(|(day, _)| day <= start) {
            day.add(UsageOutcome::Valid, missing);
        }
    }
}

fn passed(counts: &OutcomeCounts) -> i64 {
    counts.get(UsageOutcome::Valid)
}

fn refused_calls(counts: &OutcomeCounts) -> i64 {
    counts.total() - passed(counts)
}

async fn steps(
    state: &AppState,
    visitor: &Visitor,
    key_id: KeyId,
    granularity: Granularity,
) -> Result<Vec<(Timestamp, OutcomeCounts)>, Failure> {
    let range = UsageRange::new(None, None, granularity, visitor.now())
        .map_err(|error| Failure::Fault(Problem::internal(error.to_string())))?;
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let counted = state.store().key_usage(tenant, account, key_id, &range).await?;
    let counts = |start| (start, counted.get(&start).copied().unwrap_or_default());
    Ok(range.steps().map(counts).collect())
}
