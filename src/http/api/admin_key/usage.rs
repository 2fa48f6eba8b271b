//! How often a key was used, by the hour or the day.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        timestamp::Timestamp,
        usage::{Granularity, Outcome, OutcomeCounts, UsageRange},
    },
    http::{
        api::shared::{
            admin::Admin,
            params::{AccountInPath, KeyInPath, KeyPath, QueryParams},
            problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
        },
        problem::validation,
    },
    state::AppState,
};

/// How often a key was used.
#[derive(Serialize, ToSchema)]
pub struct KeyUsage {
    /// `hour` or `day`.
    #[schema(pattern = "^(hour|day)$")]
    granularity: &'static str,
    /// The beginning of the first hour or day.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// The end of the last one.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
    /// Every hour or day of that time, the oldest first.
    data: Vec<UsageStep>,
}

/// One hour or day.
#[derive(Serialize, ToSchema)]
pub struct UsageStep {
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[schema(minimum = 0)]
    total: i64,
    outcomes: UsageOutcomes,
}

/// How often requests with the key came to what.
#[derive(Serialize, ToSchema)]
pub struct UsageOutcomes {
    /// The key passed, whatever came of the request.
    #[schema(minimum = 0)]
    valid: i64,
    #[schema(minimum = 0)]
    revoked: i64,
    #[schema(minimum = 0)]
    expired: i64,
    #[schema(minimum = 0)]
    disabled: i64,
    #[schema(minimum = 0)]
    account_suspended: i64,
    #[schema(minimum = 0)]
    insufficient_scope: i64,
}

impl UsageStep {
    fn new(start: Timestamp, counts: &OutcomeCounts) -> Self {
        let outcomes = UsageOutcomes {
            valid: counts.get(Outcome::Valid),
            revoked: counts.get(Outcome::Revoked),
            expired: counts.get(Outcome::Expired),
            disabled: counts.get(Outcome::Disabled),
            account_suspended: counts.get(Outcome::AccountSuspended),
            insufficient_scope: counts.get(Outcome::InsufficientScope),
        };
        Self { start, total: counts.total(), outcomes }
    }
}

/// Which time is wanted, in which steps.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the parameters, for the OpenAPI document")]
pub struct UsageParams {
    /// Since when: the whole hour or day in which it lies. Absent: 24 hours or 30 days before the
    /// end.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Until when, widened to a whole hour or day; at most 31 days after `from` by the hour, 366
    /// by the day. Absent: to the end of this hour or day.
    #[param(format = DateTime)]
    to: Option<String>,
    /// `hour` or `day`. Days are those of UTC.
    #[param(pattern = "^(hour|day)$", default = "hour")]
    granularity: Option<String>,
}

/// Read how often a key was used, by what was said of it: by the gate, and by `verify`.
///
/// The counts are some seconds late, those of a key in steady use up to a minute.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys/{key_id}/usage",
    operation_id = "getKeyUsage", tag = "keys",
    security(("admin_key" = [])),
    params(KeyPath, UsageParams),
    responses((status = 200, body = KeyUsage), AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    KeyInPath(key_id): KeyInPath,
    mut params: QueryParams,
) -> Result<Json<KeyUsage>, Problem> {
    let from = params.optional("from", Timestamp::parse);
    let to = params.optional("to", Timestamp::parse);
    let granularity = params.optional("granularity", str::parse).unwrap_or(Granularity::Hour);
    params.finish()?;
    let range = UsageRange::new(from, to, granularity, admin.now).map_err(|error| {
        validation([json!({"parameter": error.parameter(), "detail": error.to_string()})])
    })?;
    let counted = state.store.key_usage(&admin.tenant, &account, key_id, &range).await?;
    let step =
        |start: Timestamp| UsageStep::new(start, &counted.get(&start).copied().unwrap_or_default());
    Ok(Json(KeyUsage {
        granularity: granularity.as_str(),
        from: range.from(),
        to: range.to(),
        data: range.steps().map(step).collect(),
    }))
}
