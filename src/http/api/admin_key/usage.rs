//! Usage of a key, per hour or per day.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        timestamp::Timestamp,
        usage::{Granularity, OutcomeCounts, UsageRange},
    },
    http::{
        api::shared::{
            admin::Admin,
            params::{KeyPath, QueryParams},
            problems::{AnyRoute, WithAdminKey, WithParameters, WithTarget},
        },
        problem::validation,
    },
    state::AppState,
};

/// Number of requests with a key, per hour or per day.
#[derive(Serialize, ToSchema)]
pub struct KeyUsage {
    granularity: Granularity,
    /// Start of the first hour or day.
    from: Timestamp,
    /// End of the last hour or day.
    to: Timestamp,
    /// One item for each hour or day from `from` to `to`, oldest first.
    data: Vec<UsageStep>,
}

/// The usage in one hour or day.
#[derive(Serialize, ToSchema)]
pub struct UsageStep {
    start: Timestamp,
    #[schema(minimum = 0)]
    total: i64,
    outcomes: OutcomeCounts,
}

impl UsageStep {
    fn new(start: Timestamp, outcomes: OutcomeCounts) -> Self {
        Self { start, total: outcomes.total(), outcomes }
    }
}

/// The period and the granularity of the usage.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// Start of the period, rounded down to a whole hour or day. With hourly steps, defaults to 24
    /// hours before `to`. With daily steps, defaults to 30 days before `to`.
    from: Option<Timestamp>,
    /// End of the period, rounded up to a whole hour or day. At most 31 days after `from` with
    /// hourly steps, and 366 days with daily steps. Defaults to the end of the current hour or day.
    to: Option<Timestamp>,
    /// The length of one step: an hour or a day.
    #[param(required = false, default = Granularity::default)]
    granularity: Granularity,
}

impl UsageQuery {
    fn read(mut params: QueryParams) -> Result<Self, Problem> {
        let from = params.optional("from", Timestamp::parse);
        let to = params.optional("to", Timestamp::parse);
        let granularity = params.optional("granularity", str::parse).unwrap_or_default();
        params.finish()?;
        Ok(Self { from, to, granularity })
    }

    fn range(&self, now: Timestamp) -> Result<UsageRange, Problem> {
        UsageRange::new(self.from, self.to, self.granularity, now).map_err(|error| {
            validation([json!({"parameter": error.parameter(), "detail": error.to_string()})])
        })
    }
}

/// Get an API key's usage
///
/// Counts the requests that the gate or `verify` processed for this key, by outcome. Tollgate
/// updates the counts with a delay of a few seconds, at most a minute.
#[utoipa::path(get, path = "/v1/accounts/{account}/keys/{key_id}/usage",
    operation_id = "getKeyUsage", tag = "keys",
    params(KeyPath, UsageQuery),
    responses((status = 200, description = "The usage.", body = KeyUsage),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account), %key_id))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    KeyPath { account, key_id }: KeyPath,
    params: QueryParams,
) -> Result<Json<KeyUsage>, Problem> {
    let range = UsageQuery::read(params)?.range(admin.now)?;
    let counted = state.store.key_usage(&admin.tenant, &account, key_id, &range).await?;
    let step =
        |start: Timestamp| UsageStep::new(start, counted.get(&start).copied().unwrap_or_default());
    Ok(Json(KeyUsage {
        granularity: range.granularity(),
        from: range.from(),
        to: range.to(),
        data: range.steps().map(step).collect(),
    }))
}
