//! The rate limits of a tenant, and the defaults of its plan `default`.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::rate_limit::{self, RateLimits, TenantLimitsChange},
    http::api::shared::{
        admin::Admin,
        fields::{Fields, Patch},
        problems::{AnyRoute, WithAdminKey, WithBody},
        rate_limits::{RateLimitBody, patch_rate_limits},
    },
    state::AppState,
};

/// The rate limits of the tenant, and the default limits of its plan `default`.
#[derive(Serialize, ToSchema)]
pub struct TenantLimits {
    /// The rate limits of all calls of the tenant together. Only the operator of Tollgate can
    /// change them.
    rate_limits: Vec<RateLimitBody>,
    /// The default rate limits of each key of accounts with the plan `default`. A limit of the key
    /// with the same name replaces a default.
    key_rate_limits: Vec<RateLimitBody>,
    /// The default rate limits of each account with the plan `default`, for all its keys together. A
    /// limit of the account with the same name replaces a default.
    account_rate_limits: Vec<RateLimitBody>,
}

impl TenantLimits {
    fn new(limits: &rate_limit::TenantLimits) -> Self {
        Self {
            rate_limits: RateLimitBody::list(&limits.own),
            key_rate_limits: RateLimitBody::list(&limits.keys),
            account_rate_limits: RateLimitBody::list(&limits.accounts),
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchLimitsRequest {
    /// Replaces all default rate limits of keys. `null` removes them.
    #[schema(value_type = Option<RateLimits>)]
    key_rate_limits: Patch<RateLimits>,
    /// Replaces all default rate limits of accounts. `null` removes them.
    #[schema(value_type = Option<RateLimits>)]
    account_rate_limits: Patch<RateLimits>,
}

impl PatchLimitsRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let request = Self {
            key_rate_limits: patch_rate_limits(&mut fields, "key_rate_limits"),
            account_rate_limits: patch_rate_limits(&mut fields, "account_rate_limits"),
        };
        fields.finish(Some(request))
    }
}

impl From<PatchLimitsRequest> for TenantLimitsChange {
    fn from(request: PatchLimitsRequest) -> Self {
        let change = |list: Patch<RateLimits>| list.into_change().map(Option::unwrap_or_default);
        Self {
            own: None,
            keys: change(request.key_rate_limits),
            accounts: change(request.account_rate_limits),
        }
    }
}

/// Get the tenant's rate limits
///
/// Also returns the default rate limits of the plan `default`.
#[utoipa::path(get, path = "/v1/limits", operation_id = "getLimits",
    tag = "accounts",
    responses((status = 200, description = "The rate limits.", body = TenantLimits),
        AnyRoute, WithAdminKey))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
) -> Result<Json<TenantLimits>, Problem> {
    let limits = state.store.tenant_limits(&admin.tenant).await?;
    Ok(Json(TenantLimits::new(&limits)))
}

/// Change the default rate limits
///
/// Changes the default rate limits of the plan `default`, as `PATCH /v1/plans/default` does. An
/// absent member keeps its value, and `null` clears it.
#[utoipa::path(patch, path = "/v1/limits", operation_id = "patchLimits",
    tag = "accounts",
    request_body = Option<PatchLimitsRequest>,
    responses((status = 200, description = "The rate limits.", body = TenantLimits),
        AnyRoute, WithAdminKey, WithBody))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    fields: Fields,
) -> Result<Json<TenantLimits>, Problem> {
    let change = TenantLimitsChange::from(PatchLimitsRequest::read(fields)?);
    let limits = state.store.change_tenant_limits(&admin.tenant, &change, &admin.origin).await?;
    Ok(Json(TenantLimits::new(&limits)))
}
