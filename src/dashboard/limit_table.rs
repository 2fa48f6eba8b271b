//! The table of the rate limits that apply to the calls of a key.

use super::{
    account_keys::read_or_omit,
    pages::limits::{LimitRow, LimitTable},
    session::Visitor,
    views::{calls_words, window_words},
};
use crate::{
    domain::{
        lifecycle::KeyStatus,
        rate_limit::{LimitLevel, LimitState},
        timestamp::Timestamp,
    },
    state::AppState,
    store::ApiKey,
    web::format,
};

/// Returns the table for the page of a key. `None` if the key is revoked or expired, if no limit
/// applies to its calls, or if the limits cannot be read.
pub async fn limit_table(state: &AppState, visitor: &Visitor, key: &ApiKey) -> Option<LimitTable> {
    if key.status != KeyStatus::Live {
        return None;
    }
    let reading = state.limiter().of_key(visitor.tenant(), visitor.account(), key);
    let limits = read_or_omit(visitor, "rate limits", reading).await?;
    let rows = limits.into_iter().map(|limit| row(limit, visitor.now())).collect::<Vec<_>>();
    (!rows.is_empty()).then_some(LimitTable { rows })
}

fn row(limit: LimitState, now: Timestamp) -> LimitRow {
    let end = limit.resets_in.and_then(|seconds| now.plus_seconds(i64::from(seconds)));
    LimitRow {
        label: limit.label(),
        name: limit.name.to_string(),
        of_account: limit.level == LimitLevel::Account,
        rate: format!("{} {}", calls_words(limit.calls), window_words(limit.window)),
        scope: limit.scope.map(|scope| scope.to_string()),
        remaining: format::count(i64::from(limit.remaining)),
        resets: end.map(|at| format::moment(at, Some(now))),
    }
}
