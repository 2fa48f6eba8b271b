//! The list of an account's keys, and the forms that disable, enable or revoke a key.

use std::{cmp::Reverse, collections::BTreeMap};

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    account_keys::{
        LastUses, MAX_LISTED, cap, count_toward_cap, live_keys, newest_keys, read_or_omit,
    },
    key_claims::is_done,
    key_detail,
    key_in_path::KeyInPath,
    pages::{
        frame::{Frame, Nav},
        key_actions::RevokePage,
        key_views::{Access, KeyState},
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
        text::Reason,
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

/// `GET /dashboard/keys`
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %visitor.tenant().slug, account = %visitor.account()))]
pub async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    Query(query): Query,
) -> Result<Response, Failure> {
    if let Some(redirect) = search::without_key(PATH, &query) {
        return Ok(redirect);
    }
    let shows_all = query.text("show") == "all";
    let live = live_keys(&state, &visitor).await?;
    let live_count = count_toward_cap(&live);
    let mut keys = if shows_all { newest_keys(&state, &visitor).await? } else { live };
    let (search, sort) = (Search::of(&query), KeySort::of(&query));
    let form = (keys.len() > search::SHORT || search.is_active()).then(|| {
        let label = "Search by name, ID or visible characters of the key";
        search::form(&query, &search, PATH, label, &["show"], sort.choices())
    });
    let total = keys.len();
    keys.retain(|key| search.matches([key.settings.name.as_str(), &key.hint, &key.id.to_string()]));
    let nothing_found = keys.is_empty() && total > 0;
    let last_uses = LastUses::read(&state, &visitor, &keys).await;
    sort.apply(&mut keys, &last_uses);
    let (previous, next) = Pages::of(&query, search::LENGTH).cut(&mut keys);
    let to_page = |number| page_url(PATH, &query, &["show", "q", "sort"], number);
    let frame = list_frame(&state, &visitor, &query).await;
    let activity = activity(&state, &visitor, &keys).await;
    let state_of = |key: &ApiKey| key_state(key, visitor.is_suspended());
    let rows = keys.iter().map(|key| {
        let activity = activity.as_ref().and_then(|activity| activity.get(&key.id));
        row(&visitor, key, &last_uses, activity)
    });
    show(&KeysPage {
        frame,
        live_count,
        max_keys: cap(&visitor),
        may_create: visitor.plan().owner_creates_keys,
        keys: rows.collect(),
        shows_all,
        search: form,
        nothing_found,
        rotated_out: keys.iter().any(|key| state_of(key) == KeyState::RotatedOut),
        shows_newest: total == usize::try_from(MAX_LISTED).unwrap_or(usize::MAX),
        previous_url: previous.map(to_page),
        next_url: next.map(to_page),
        example_url: example_url(&state),
        env_name: env_name(visitor.tenant()),
    })
}

/// The orders of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum KeySort {
    /// The newest key first.
    Created,
    /// By name, in alphabetical order.
    Name,
    /// The most recently used key first, and keys that were never used last.
    LastUsed,
    /// The key that expires soonest first, and keys that never expire last.
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

    /// Sorts keys, which must be in the order of [`Self::Created`]. Keys that compare equal stay in
    /// this order.
    fn apply(self, keys: &mut [ApiKey], last_uses: &LastUses) {
        match self {
            Self::Created => {}
            Self::Name => keys.sort_by_cached_key(|key| key.settings.name.as_str().to_lowercase()),
            Self::LastUsed => keys.sort_by_key(|key| Reverse(last_uses.of(key))),
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

/// Reads the activity of these keys. `None` if it cannot be read.
async fn activity(
    state: &AppState,
    visitor: &Visitor,
    keys: &[ApiKey],
) -> Option<BTreeMap<KeyId, KeyActivity>> {
    let (tenant, account) = (visitor.tenant(), visitor.account());
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
    let reading = state.store().key_activity(tenant, account, &ids);
    let activity = read_or_omit(visitor, "activity", reading).await?;
    Some(activity.into_iter().map(|activity| (activity.key_id, activity)).collect())
}

fn row(
    visitor: &Visitor,
    key: &ApiKey,
    last_uses: &LastUses,
    activity: Option<&KeyActivity>,
) -> KeyRow {
    let now = visitor.now();
    let soon = expires_soon(key, now);
    KeyRow {
        head: key_head(key),
        access: Access::of(key.settings.scopes.to_strings()),
        state: key_state(key, visitor.is_suspended()),
        created: format::day(key.created_at, None),
        last_used: last_uses.of(key).map(|at| format::moment(at, Some(now))),
        expires: key.settings.expires_at.map(|at| format::moment(at, soon.then_some(now))),
        expires_soon: soon,
        figures: activity.map(|activity| figures(visitor, activity)),
        live: key.status == KeyStatus::Live,
    }
}

fn figures(visitor: &Visitor, activity: &KeyActivity) -> KeyFigures {
    let calls: i64 = activity.calls.iter().sum();
    let noun = if calls == 1 { "call" } else { "calls" };
    let calls = format!("{} {noun}", format::count(calls));
    let title = format!("{calls} in the last 24 hours, by hour");
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
        show(&revoke_page(&state, &visitor, &key, &Form::default()).await)
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
        let page = revoke_page(&state, &visitor, &key, &form).await;
        return show_with(StatusCode::BAD_REQUEST, &page);
    }
    visitor.handle(&state).revoke_api_key(key_id, reason.as_ref()).await?;
    let key_id = key_id.to_string();
    Ok(see_other(&link(PATH, &[("done", "revoked"), ("key", &key_id)])))
}

async fn revoke_page(state: &AppState, visitor: &Visitor, key: &ApiKey, form: &Form) -> RevokePage {
    let last_used = LastUses::read(state, visitor, std::slice::from_ref(key)).await.of(key);
    RevokePage {
        frame: visitor.form_frame("Revoke API key", Nav::Keys, form),
        key: key_head(key),
        last_used: last_used.map(|at| format::moment(at, Some(visitor.now()))),
        reason: form.field("reason"),
    }
}
