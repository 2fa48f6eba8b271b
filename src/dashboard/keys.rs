//! The list of an account's keys, and the actions that need only a button: disable, enable and
//! revoke.

use std::{cmp::Reverse, collections::BTreeMap, error::Error, time::Duration};

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::{cap, count_toward_cap, live_keys, newest_keys},
    key_claims::is_done,
    key_detail,
    key_in_path::KeyInPath,
    pages::{
        frame::{Frame, Nav},
        key_actions::RevokePage,
        key_views::Access,
        keys::{KeyFigures, KeyRow, KeysPage},
    },
    search::{self, Pages, Search, page_url},
    session::Visitor,
    submission::Submission,
    views::{env_name, example_url, expires_soon, key_head, key_state, key_url},
};
use crate::{
    domain::{
        dashboard::DashboardRight, id::KeyId, key_settings::KeyChange, lifecycle::KeyStatus,
        text::Reason, timestamp::Timestamp,
    },
    state::AppState,
    store::{ApiKey, KeyActivity},
    web::{
        chart,
        failure::Failure,
        fields::Choice,
        format,
        forms::{Form, Query},
        links::link,
        respond::{see_other, show, show_with},
    },
};

const PATH: &str = "/dashboard/keys";

/// Maximum number of keys on a page of the list.
const LENGTH: usize = 50;

/// A longer list than this has a search form.
const SHORT: usize = 8;

/// How long the list waits for the activity of the keys.
const PATIENCE: Duration = Duration::from_secs(2);

/// `GET /dashboard/keys`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    let shows_all = query.text("show") == "all";
    let live = live_keys(&state, &visitor).await?;
    let live_count = count_toward_cap(&live);
    let mut keys = if shows_all { newest_keys(&state, &visitor).await? } else { live };
    let (search, sort) = (Search::of(&query), KeySort::of(&query));
    let form = (keys.len() > SHORT || search.is_active()).then(|| {
        let label = "Search by name, ID or visible characters of the key";
        search::form(&query, &search, PATH, label, &["show"], sort.choices())
    });
    let total = keys.len();
    keys.retain(|key| search.matches([key.settings.name.as_str(), &key.hint, &key.id.to_string()]));
    let nothing_found = keys.is_empty() && total > 0;
    sort.apply(&mut keys);
    let (previous, next) = Pages::of(&query, LENGTH).cut(&mut keys);
    let to_page = |number| page_url(PATH, &query, &["show", "q", "sort"], number);
    let frame = list_frame(&state, &visitor, &query).await;
    let activity = activity(&state, &visitor, &keys).await;
    let rows = keys.iter().map(|key| {
        let activity = activity.as_ref().and_then(|activity| activity.get(&key.id));
        row(&visitor, key, activity)
    });
    show(&KeysPage {
        frame,
        live_count,
        max_keys: cap(&visitor),
        keys: rows.collect(),
        shows_all,
        search: form,
        nothing_found,
        rotated_out: keys.iter().any(is_rotated_out),
        previous_url: previous.map(to_page),
        next_url: next.map(to_page),
        example_url: example_url(&state),
        env_name: env_name(visitor.tenant()),
    })
}

/// Whether the key is in its grace period: it is live, but does not count toward the cap.
fn is_rotated_out(key: &ApiKey) -> bool {
    key.status == KeyStatus::Live && key.rotated_to.is_some()
}

/// The orders of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeySort {
    /// The newest key first.
    Created,
    /// By name, in alphabetical order.
    Name,
    /// The most recently used key first, then those that were never used.
    LastUsed,
    /// The key that expires soonest first, then those that never expire.
    Expiry,
}

impl KeySort {
    const ALL: [(Self, &str, &str); 4] = [
        (Self::Created, "", "Newest first"),
        (Self::Name, "name", "Name"),
        (Self::LastUsed, "last_used", "Last used"),
        (Self::Expiry, "expiry", "Expires soonest"),
    ];

    fn of(query: &Form) -> Self {
        search::chosen(&Self::ALL, query)
    }

    fn choices(self) -> Vec<Choice> {
        search::choices(&Self::ALL, self)
    }

    /// Sorts keys that are newest first. Keys that compare equal stay in this order.
    fn apply(self, keys: &mut [ApiKey]) {
        match self {
            Self::Created => {}
            Self::Name => keys.sort_by_cached_key(|key| key.settings.name.as_str().to_lowercase()),
            Self::LastUsed => keys.sort_by_key(|key| Reverse(key.last_used_at)),
            Self::Expiry => keys.sort_by_key(|key| {
                let expires_at = key.settings.expires_at;
                (expires_at.is_none(), expires_at)
            }),
        }
    }
}

/// Returns the frame of the list. If a redirect claims that a key was revoked, and the claim is
/// true, the frame contains the notice.
async fn list_frame(state: &AppState, visitor: &Visitor, query: &Form) -> Frame {
    if let Ok(key_id) = query.text("key").parse::<KeyId>() {
        let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await;
        if key.is_ok_and(|key| is_done(visitor, &key, query)) {
            return visitor.frame_after("API Keys", Nav::Keys, query);
        }
    }
    visitor.frame("API Keys", Nav::Keys)
}

/// Reads the activity of these keys. The list appears without it if the read fails or takes too
/// long, because owners revoke keys on this page.
async fn activity(
    state: &AppState,
    visitor: &Visitor,
    keys: &[ApiKey],
) -> Option<BTreeMap<KeyId, KeyActivity>> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
    let reading = state.store().key_activity(tenant, account, &ids);
    let error: Box<dyn Error + Send + Sync> = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(activity)) => {
            let by_key = activity.into_iter().map(|activity| (activity.key_id, activity));
            return Some(by_key.collect());
        }
        Ok(Err(error)) => error.into(),
        Err(late) => late.into(),
    };
    let (tenant, error) = (tenant.slug.as_str(), &*error as &dyn Error);
    tracing::warn!(tenant, error, "failed to read the activity of keys: the list of keys omits it");
    None
}

fn row(visitor: &Visitor, key: &ApiKey, activity: Option<&KeyActivity>) -> KeyRow {
    let now = visitor.now();
    let soon = expires_soon(key, now);
    KeyRow {
        head: key_head(key),
        access: Access::of(key.settings.scopes.to_strings()),
        state: key_state(key, visitor.is_suspended()),
        created: format::day(key.created_at, None),
        last_used: last_used(key, activity).map(|at| format::moment(at, Some(now))),
        expires: key.settings.expires_at.map(|at| format::moment(at, soon.then_some(now))),
        expires_soon: soon,
        figures: activity.map(|activity| figures(visitor, activity)),
        live: key.status == KeyStatus::Live,
    }
}

/// Returns the last use of a key. Nodes write uses a few seconds late, so a newer purchase counts
/// as a use.
fn last_used(key: &ApiKey, activity: Option<&KeyActivity>) -> Option<Timestamp> {
    match activity {
        Some(activity) => activity.purchases.last_used(key.last_used_at),
        None => key.last_used_at,
    }
}

fn figures(visitor: &Visitor, activity: &KeyActivity) -> KeyFigures {
    let calls = format::count(activity.calls.iter().sum());
    let noun = if calls == "1" { "call" } else { "calls" };
    let title = format!("{calls} {noun} in the last 24 hours, by hour");
    KeyFigures {
        activity: chart::sparkline(title, &activity.calls),
        calls,
        refused: (activity.refused > 0).then(|| format::count(activity.refused)),
        spent: visitor
            .may(DashboardRight::Audit)
            .then(|| format::amount(activity.purchases.total_spent(), visitor.currency())),
        truncated: activity.purchases.truncated,
    }
}

/// `POST /dashboard/keys/{key_id}/disable`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn disable(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    switch(&state, &visitor, key_id, false).await
}

/// `POST /dashboard/keys/{key_id}/enable`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn enable(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, .. }: Submission,
) -> Result<Response, Failure> {
    visitor.refuse_if_suspended()?;
    switch(&state, &visitor, key_id, true).await
}

async fn switch(
    state: &AppState,
    visitor: &Visitor,
    key_id: KeyId,
    enabled: bool,
) -> Result<Response, Failure> {
    let change = KeyChange { enabled: Some(enabled), ..KeyChange::default() };
    match visitor.handle(state).change_api_key(key_id, &change).await {
        Ok(_) => {
            let done = if enabled { "enabled" } else { "disabled" };
            Ok(see_other(&link(&key_url(key_id), &[("done", done)])))
        }
        Err(error) => key_detail::refused(state, visitor, key_id, error).await,
    }
}

/// `GET /dashboard/keys/{key_id}/revoke`: asks for confirmation. If the key is revoked or expired,
/// redirects to its page.
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn ask_to_revoke(
    State(state): State<AppState>,
    visitor: Visitor,
    KeyInPath(key_id): KeyInPath,
) -> Result<Response, Failure> {
    let key = state.store().find_api_key(visitor.tenant(), visitor.account(), key_id).await?;
    if key.status == KeyStatus::Live {
        show(&revoke_page(&state, &visitor, &key, &Form::default()).await?)
    } else {
        Ok(see_other(&key_url(key_id)))
    }
}

/// `POST /dashboard/keys/{key_id}/revoke`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account(), %key_id))]
pub async fn revoke(
    State(state): State<AppState>,
    KeyInPath(key_id): KeyInPath,
    Submission { visitor, mut form }: Submission,
) -> Result<Response, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let reason = form.optional("reason", Reason::parse);
    if !form.is_right() {
        let key = state.store().find_api_key(tenant, account, key_id).await?;
        let page = revoke_page(&state, &visitor, &key, &form).await?;
        return show_with(StatusCode::BAD_REQUEST, &page);
    }
    visitor.handle(&state).revoke_api_key(key_id, reason.as_ref()).await?;
    let key_id = key_id.to_string();
    Ok(see_other(&link(PATH, &[("done", "revoked"), ("key", &key_id)])))
}

async fn revoke_page(
    state: &AppState,
    visitor: &Visitor,
    key: &ApiKey,
    form: &Form,
) -> Result<RevokePage, Failure> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let purchases = state.store().key_purchases_by_hour(tenant, account, key.id).await?;
    let last_used = purchases.last_used(key.last_used_at);
    Ok(RevokePage {
        frame: visitor.form_frame("Revoke API key", Nav::Keys, form),
        key: key_head(key),
        last_used: last_used.map(|at| format::moment(at, Some(visitor.now()))),
        reason: form.field("reason"),
    })
}
