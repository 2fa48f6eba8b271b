//! The plans of the tenant: the rules for the keys of its accounts.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::{
    auth::Problem,
    domain::{
        plan::{
            self, LifetimeSeconds, PlanError, PlanName, PlanScope, PlanScopes, PlanSettings,
            ScopeText, WriteDays,
        },
        rate_limit::RateLimits,
        scope::{Scope, ScopeSet},
        tenant::MaxKeys,
        timestamp::Timestamp,
    },
    http::{
        api::shared::{
            admin::Admin,
            fields::{Fields, Patch, Wrong, boolean, integer, scopes, text},
            page::{List, Page},
            params::{QueryParams, path_id},
            problems::{
                AnyRoute, PlanInUse, PlanLimitReached, WithAdminKey, WithBody, WithParameters,
                WithTarget,
            },
            rate_limits::{RateLimitBody, patch_rate_limits, rate_limits},
        },
        problem::validation,
    },
    state::AppState,
};

/// A plan: the rules for the keys of the accounts that have it.
#[derive(Serialize, ToSchema)]
pub struct Plan {
    name: PlanName,
    /// Maximum number of live keys of an account.
    #[schema(value_type = i32, minimum = 1, maximum = 1000)]
    max_keys: u16,
    /// The scopes that keys may have. Keys may also have scopes that these imply. `null` if keys may
    /// have any scope.
    #[schema(required = true)]
    scopes: Option<Vec<PlanScopeBody>>,
    /// The scopes of a key that is created without scopes.
    default_scopes: ScopeSet,
    /// Longest time from the creation of a key, or from a change of its expiry, until it expires.
    /// `null` if keys may never expire.
    #[schema(required = true)]
    max_lifetime_seconds: Option<LifetimeSeconds>,
    /// The lifetime of a key that is created without an expiry. `null` if it is
    /// `max_lifetime_seconds`.
    #[schema(required = true)]
    default_lifetime_seconds: Option<LifetimeSeconds>,
    /// A key that can write, and that may be used from any address, expires within this number of
    /// days. `null` if there is no such rule.
    #[schema(required = true)]
    write_without_networks_days: Option<WriteDays>,
    /// Whether owners of accounts may create keys in the dashboard.
    owner_creates_keys: bool,
    /// The default rate limits of each key. A limit of the key with the same name replaces a
    /// default.
    key_rate_limits: Vec<RateLimitBody>,
    /// The default rate limits of each account, for all its keys together. A limit of the account
    /// with the same name replaces a default.
    account_rate_limits: Vec<RateLimitBody>,
    created_at: Timestamp,
}

/// A scope that keys may have.
#[derive(Serialize, ToSchema)]
#[schema(as = PlanScope)]
pub struct PlanScopeBody {
    scope: Scope,
    /// What the scope allows, for people. Can be empty.
    text: String,
}

pub type PlanList = List<Plan>;

/// The part of a list of plans that `limit` and `cursor` select. A position is a name, filled up
/// with zeros.
type PlanPage = Page<32>;

impl From<plan::Plan> for Plan {
    fn from(plan: plan::Plan) -> Self {
        let settings = plan.settings;
        let scope = |listed: &PlanScope| PlanScopeBody {
            scope: listed.scope.clone(),
            text: listed.text.as_str().to_owned(),
        };
        Self {
            name: plan.name,
            max_keys: settings.max_keys.get(),
            scopes: settings.scopes.map(|scopes| scopes.iter().map(scope).collect()),
            default_scopes: settings.default_scopes,
            max_lifetime_seconds: settings.max_lifetime,
            default_lifetime_seconds: settings.default_lifetime,
            write_without_networks_days: settings.write_without_networks,
            owner_creates_keys: settings.owner_creates_keys,
            key_rate_limits: RateLimitBody::list(&settings.key_rate_limits),
            account_rate_limits: RateLimitBody::list(&settings.account_rate_limits),
            created_at: plan.created_at,
        }
    }
}

/// The name of a plan in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PlanPath {
    /// The name of the plan.
    pub plan: PlanName,
}

impl<S: Send + Sync> FromRequestParts<S> for PlanPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self { plan: path_id(parts, "plan").await? })
    }
}

/// The name in the path of a plan that may be created. An invalid name gets a 422.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct NewPlanPath {
    /// The name of the plan.
    pub plan: PlanName,
}

impl<S: Send + Sync> FromRequestParts<S> for NewPlanPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text: String = path_id(parts, "plan").await?;
        let wrong = |error: plan::PlanNameError| {
            validation([json!({"parameter": "plan", "detail": error.to_string()})])
        };
        Ok(Self { plan: text.parse().map_err(wrong)? })
    }
}

/// A scope that keys may have, in a request.
#[derive(ToSchema)]
#[schema(as = NewPlanScope)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the schema of the type is used")]
pub struct NewPlanScope {
    scope: Scope,
    /// What the scope allows, for people, in at most 200 characters.
    text: Option<String>,
}

/// The settings of the plan. An absent member gets its default.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPlanRequest {
    /// Maximum number of live keys of an account. Defaults to 5.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1000)]
    max_keys: Option<MaxKeys>,
    /// The scopes that keys may have, at most 32. Keys may also have scopes that these imply.
    /// Defaults to any scope.
    #[schema(value_type = Option<Vec<NewPlanScope>>, min_items = 1, max_items = 32)]
    scopes: Option<PlanScopes>,
    /// The scopes of a key that is created without scopes. Defaults to `read`.
    default_scopes: Option<ScopeSet>,
    /// Longest time until a key expires. By default, keys may never expire.
    max_lifetime_seconds: Option<LifetimeSeconds>,
    /// The lifetime of a key that is created without an expiry. Defaults to `max_lifetime_seconds`.
    default_lifetime_seconds: Option<LifetimeSeconds>,
    /// A key that can write, and that may be used from any address, expires within this number of
    /// days. By default, there is no such rule.
    write_without_networks_days: Option<WriteDays>,
    /// Whether owners of accounts may create keys in the dashboard. Defaults to `true`.
    owner_creates_keys: Option<bool>,
    /// The default rate limits of each key. Defaults to none.
    key_rate_limits: Option<RateLimits>,
    /// The default rate limits of each account. Defaults to none.
    account_rate_limits: Option<RateLimits>,
}

impl PutPlanRequest {
    fn read(mut fields: Fields) -> Result<PlanSettings, Problem> {
        let request = Self {
            max_keys: fields.optional("max_keys", integer(MaxKeys::try_from)),
            scopes: plan_scopes(&mut fields),
            default_scopes: fields.optional("default_scopes", scopes),
            max_lifetime_seconds: fields.optional("max_lifetime_seconds", lifetime()),
            default_lifetime_seconds: fields.optional("default_lifetime_seconds", lifetime()),
            write_without_networks_days: fields
                .optional("write_without_networks_days", integer(WriteDays::try_from)),
            owner_creates_keys: fields.optional("owner_creates_keys", boolean),
            key_rate_limits: rate_limits(&mut fields, "key_rate_limits"),
            account_rate_limits: rate_limits(&mut fields, "account_rate_limits"),
        };
        let settings = request.into_settings();
        if let Err(error) = settings.check() {
            fields.wrong(member(&error), error.to_string());
        }
        fields.finish(Some(settings))
    }

    fn into_settings(self) -> PlanSettings {
        let default = PlanSettings::default();
        PlanSettings {
            max_keys: self.max_keys.unwrap_or(default.max_keys),
            scopes: self.scopes,
            default_scopes: self.default_scopes.unwrap_or(default.default_scopes),
            max_lifetime: self.max_lifetime_seconds,
            default_lifetime: self.default_lifetime_seconds,
            write_without_networks: self.write_without_networks_days,
            owner_creates_keys: self.owner_creates_keys.unwrap_or(default.owner_creates_keys),
            key_rate_limits: self.key_rate_limits.unwrap_or_default(),
            account_rate_limits: self.account_rate_limits.unwrap_or_default(),
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchPlanRequest {
    /// Maximum number of live keys of an account.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1000, nullable = false)]
    max_keys: Option<MaxKeys>,
    /// Replaces the scopes that keys may have. `null` allows any scope.
    #[schema(value_type = Option<Vec<NewPlanScope>>, min_items = 1, max_items = 32)]
    scopes: Patch<PlanScopes>,
    /// The scopes of a key that is created without scopes.
    #[schema(nullable = false)]
    default_scopes: Option<ScopeSet>,
    /// Longest time until a key expires. `null` removes the rule.
    #[schema(value_type = Option<LifetimeSeconds>)]
    max_lifetime_seconds: Patch<LifetimeSeconds>,
    /// The lifetime of a key that is created without an expiry. `null` makes it
    /// `max_lifetime_seconds`.
    #[schema(value_type = Option<LifetimeSeconds>)]
    default_lifetime_seconds: Patch<LifetimeSeconds>,
    /// A key that can write, and that may be used from any address, expires within this number of
    /// days. `null` removes the rule.
    #[schema(value_type = Option<WriteDays>)]
    write_without_networks_days: Patch<WriteDays>,
    /// Whether owners of accounts may create keys in the dashboard.
    #[schema(nullable = false)]
    owner_creates_keys: Option<bool>,
    /// Replaces all default rate limits of keys. `null` removes them.
    #[schema(value_type = Option<RateLimits>)]
    key_rate_limits: Patch<RateLimits>,
    /// Replaces all default rate limits of accounts. `null` removes them.
    #[schema(value_type = Option<RateLimits>)]
    account_rate_limits: Patch<RateLimits>,
}

impl PatchPlanRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let request = Self {
            max_keys: fields.change("max_keys", integer(MaxKeys::try_from)),
            scopes: fields.patch_with("scopes", plan_scopes),
            default_scopes: fields.change("default_scopes", scopes),
            max_lifetime_seconds: fields.patch("max_lifetime_seconds", lifetime()),
            default_lifetime_seconds: fields.patch("default_lifetime_seconds", lifetime()),
            write_without_networks_days: fields
                .patch("write_without_networks_days", integer(WriteDays::try_from)),
            owner_creates_keys: fields.change("owner_creates_keys", boolean),
            key_rate_limits: patch_rate_limits(&mut fields, "key_rate_limits"),
            account_rate_limits: patch_rate_limits(&mut fields, "account_rate_limits"),
        };
        fields.finish(Some(request))
    }

    /// Returns the settings after this change.
    fn applied_to(self, old: &PlanSettings) -> Result<PlanSettings, PlanError> {
        let old = old.clone();
        let settings = PlanSettings {
            max_keys: self.max_keys.unwrap_or(old.max_keys),
            scopes: self.scopes.into_change().unwrap_or(old.scopes),
            default_scopes: self.default_scopes.unwrap_or(old.default_scopes),
            max_lifetime: self.max_lifetime_seconds.into_change().unwrap_or(old.max_lifetime),
            default_lifetime: self
                .default_lifetime_seconds
                .into_change()
                .unwrap_or(old.default_lifetime),
            write_without_networks: self
                .write_without_networks_days
                .into_change()
                .unwrap_or(old.write_without_networks),
            owner_creates_keys: self.owner_creates_keys.unwrap_or(old.owner_creates_keys),
            key_rate_limits: list(self.key_rate_limits, old.key_rate_limits),
            account_rate_limits: list(self.account_rate_limits, old.account_rate_limits),
        };
        settings.check()?;
        Ok(settings)
    }
}

/// Returns the list after a change.
fn list(change: Patch<RateLimits>, old: RateLimits) -> RateLimits {
    change.into_change().map_or(old, Option::unwrap_or_default)
}

fn lifetime() -> impl FnOnce(Value) -> Result<LifetimeSeconds, Wrong> {
    integer(LifetimeSeconds::try_from)
}

/// Reads an optional list of scopes with their texts.
fn plan_scopes(fields: &mut Fields) -> Option<PlanScopes> {
    let scopes = fields.objects("scopes", |fields| {
        let scope = fields.required("scope", text(str::parse::<Scope>));
        let text = fields.optional("text", text(str::parse::<ScopeText>)).unwrap_or_default();
        Some(PlanScope { scope: scope?, text })
    })?;
    PlanScopes::new(scopes).map_err(|error| fields.wrong("scopes", error.to_string())).ok()
}

/// Returns the member that causes the error.
fn member(error: &PlanError) -> &'static str {
    match error {
        PlanError::DefaultScope(_) => "default_scopes",
        PlanError::DefaultLifetime => "default_lifetime_seconds",
    }
}

/// List plans
///
/// Returns the plans sorted by name.
#[utoipa::path(get, path = "/v1/plans", operation_id = "listPlans",
    tag = "accounts",
    params(PlanPage),
    responses((status = 200, description = "A page of plans.", body = PlanList),
        AnyRoute, WithAdminKey, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn list_all(
    State(state): State<AppState>,
    admin: Admin,
    params: QueryParams,
) -> Result<PlanList, Problem> {
    let page = PlanPage::read(params, format!("plans {}", admin.tenant.id))?;
    let after = page.after.and_then(read_position);
    let plans = state.store.list_plans(&admin.tenant, after.as_ref(), page.fetch()).await?;
    Ok(page.respond(plans, |plan| position(&plan.name), Plan::from))
}

/// Get a plan
#[utoipa::path(get, path = "/v1/plans/{plan}", operation_id = "getPlan",
    tag = "accounts",
    params(PlanPath),
    responses((status = 200, description = "The plan.", body = Plan),
        AnyRoute, WithAdminKey, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, %plan))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    PlanPath { plan }: PlanPath,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(state.store.find_plan(&admin.tenant, &plan).await?.into()))
}

/// Create or replace a plan
///
/// Replaces all settings of a plan that exists. Every node applies the new settings before the
/// response. Settings that concern the creation and changes of keys do not change existing keys.
#[utoipa::path(put, path = "/v1/plans/{plan}", operation_id = "putPlan",
    tag = "accounts",
    params(NewPlanPath),
    request_body = Option<PutPlanRequest>,
    responses(
        (status = 200, description = "The plan existed. It has the new settings.", body = Plan),
        (status = 201, description = "The plan was created.", body = Plan),
        PlanLimitReached, AnyRoute, WithAdminKey, WithBody))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, %plan))]
pub async fn put(
    State(state): State<AppState>,
    admin: Admin,
    NewPlanPath { plan }: NewPlanPath,
    fields: Fields,
) -> Result<(StatusCode, Json<Plan>), Problem> {
    let settings = PutPlanRequest::read(fields)?;
    let (plan, made) = state.store.put_plan(&admin.tenant, &plan, &settings, &admin.origin).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(plan.into())))
}

/// Change a plan
///
/// An absent member keeps its value, and `null` clears it. Every node applies the change before the
/// response.
#[utoipa::path(patch, path = "/v1/plans/{plan}", operation_id = "patchPlan",
    tag = "accounts",
    params(PlanPath),
    request_body = Option<PatchPlanRequest>,
    responses((status = 200, description = "The plan.", body = Plan),
        AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, %plan))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    PlanPath { plan }: PlanPath,
    fields: Fields,
) -> Result<Json<Plan>, Problem> {
    let request = PatchPlanRequest::read(fields)?;
    let edit = |old: &PlanSettings| request.applied_to(old);
    let changed = state.store.change_plan(&admin.tenant, &plan, edit, &admin.origin).await?;
    let wrong = |error: PlanError| {
        let pointer = format!("/{}", member(&error));
        validation([json!({"pointer": pointer, "detail": error.to_string()})])
    };
    Ok(Json(changed.map_err(wrong)?.into()))
}

/// Delete a plan
///
/// Only a plan that no account has can be deleted. The plan `default` cannot be deleted.
#[utoipa::path(delete, path = "/v1/plans/{plan}", operation_id = "deletePlan",
    tag = "accounts",
    params(PlanPath),
    responses((status = 204, description = "The plan was deleted."),
        PlanInUse, AnyRoute, WithAdminKey, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, %plan))]
pub async fn delete(
    State(state): State<AppState>,
    admin: Admin,
    PlanPath { plan }: PlanPath,
) -> Result<StatusCode, Problem> {
    state.store.delete_plan(&admin.tenant, &plan, &admin.origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn position(name: &PlanName) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
    bytes
}

fn read_position(bytes: [u8; 32]) -> Option<PlanName> {
    str::from_utf8(&bytes).ok()?.trim_end_matches('\0').parse().ok()
}
