//! Creates, reads, lists and changes accounts.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        account::{AccountStatus, ExternalId},
        allowed_ips::AllowedIps,
        plan::PlanName,
        rate_limit::{LimitState, RateLimits},
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        allowed_ips::allowed_ips,
        amounts::Balance,
        fields::{Fields, Patch, text},
        page::{List, Page},
        params::{AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithBody, WithParameters, WithTarget},
        rate_limit_state::RateLimitState,
        rate_limits::{RateLimitBody, patch_rate_limits},
    },
    state::AppState,
    store::{self, AccountChange, Refusal, StoreError},
};

/// An account of the tenant.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// The tenant's own id for the account.
    id: ExternalId,
    status: AccountStatus,
    balance: Balance,
    /// The rate limits of all keys of the account together. `null` if the account has none of its
    /// own, so that only the plan's defaults apply.
    #[schema(required = true)]
    rate_limits: Option<Vec<RateLimitBody>>,
    /// The rate limits that apply to the calls of the account, with their current windows: the
    /// account's limits and the plan's defaults for accounts. `null` in the response to a change
    /// if they could not be read.
    #[schema(required = true)]
    effective_rate_limits: Option<Vec<RateLimitState>>,
    /// Networks from which Tollgate accepts the keys of the account. `null` if Tollgate accepts
    /// them from any address.
    #[schema(required = true)]
    allowed_ips: Option<AllowedIps>,
    /// The name of the account's plan, which sets the rules for its keys.
    plan: PlanName,
    created_at: Timestamp,
}

pub type AccountList = List<Account>;

/// The part of a list of accounts that `limit` and `cursor` select.
type AccountPage = Page<24>;

impl Account {
    fn new(account: store::Account, limits: Option<Vec<LimitState>>, admin: &Admin) -> Self {
        Self {
            id: account.external_id,
            status: account.status,
            balance: Balance::new(account.balance, account.held, &admin.tenant.policy.currency),
            rate_limits: account.rate_limits.as_ref().map(RateLimitBody::list),
            effective_rate_limits: limits.map(|limits| RateLimitState::list(limits, admin.now)),
            allowed_ips: account.allowed_ips,
            plan: account.plan,
            created_at: account.created_at,
        }
    }
}

/// The settings of the account. The path contains its id.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccountRequest {
    /// Replaces all rate limits of the account. `null` removes them, so that only the tenant's
    /// defaults apply. If absent, an existing account keeps its rate limits.
    #[schema(value_type = Option<RateLimits>)]
    rate_limits: Patch<RateLimits>,
    /// Replaces all networks of the account. `null` removes them, so that Tollgate accepts the keys
    /// from any address. If absent, an existing account keeps its networks.
    #[schema(value_type = Option<AllowedIps>)]
    allowed_ips: Patch<AllowedIps>,
    /// Name of the account's plan. If absent, a new account has the plan `default`, and an existing
    /// account keeps its plan.
    #[schema(nullable = false)]
    plan: Option<PlanName>,
}

impl PutAccountRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let rate_limits = patch_rate_limits(&mut fields, "rate_limits");
        let allowed_ips = fields.patch("allowed_ips", allowed_ips);
        let plan = fields.change("plan", text(str::parse));
        fields.finish(Some(Self { rate_limits, allowed_ips, plan }))
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchAccountRequest {
    #[schema(nullable = false)]
    status: Option<AccountStatus>,
    /// Replaces all rate limits of the account. `null` removes them, so that only the tenant's
    /// defaults apply.
    #[schema(value_type = Option<RateLimits>)]
    rate_limits: Patch<RateLimits>,
    /// Replaces all networks of the account. `null` removes them, so that Tollgate accepts the keys
    /// from any address.
    #[schema(value_type = Option<AllowedIps>)]
    allowed_ips: Patch<AllowedIps>,
    /// Name of the account's new plan. The new plan's rate limits apply immediately. The other rules
    /// apply when a key is created or changed.
    #[schema(nullable = false)]
    plan: Option<PlanName>,
}

impl PatchAccountRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let status = fields.change("status", text(str::parse));
        let rate_limits = patch_rate_limits(&mut fields, "rate_limits");
        let allowed_ips = fields.patch("allowed_ips", allowed_ips);
        let plan = fields.change("plan", text(str::parse));
        fields.finish(Some(Self { status, rate_limits, allowed_ips, plan }))
    }
}

/// Returns the change to the settings. `None` if the request contains no setting.
fn change(
    rate_limits: Patch<RateLimits>,
    allowed_ips: Patch<AllowedIps>,
    plan: Option<PlanName>,
) -> Option<AccountChange> {
    let (rate_limits, allowed_ips) = (rate_limits.into_change(), allowed_ips.into_change());
    let change = AccountChange { rate_limits, allowed_ips, plan };
    (change != AccountChange::default()).then_some(change)
}

/// Refuses a request with an unknown plan before it has any effect.
async fn refuse_unknown_plan(
    state: &AppState,
    admin: &Admin,
    plan: Option<&PlanName>,
) -> Result<(), Problem> {
    let Some(plan) = plan else { return Ok(()) };
    match state.store.find_plan(&admin.tenant, plan).await {
        Err(StoreError::Refused(Refusal::NotFound)) => Err(Refusal::UnknownPlan.into()),
        found => Ok(found.map(drop)?),
    }
}

/// Create an account
///
/// Returns the account if it already exists. An existing account gets the settings in the body too.
#[utoipa::path(put, path = "/v1/accounts/{account}", operation_id = "putAccount",
    tag = "accounts",
    params(AccountPath),
    request_body = Option<PutAccountRequest>,
    responses(
        (status = 200, description = "The account already existed.", body = Account),
        (status = 201, description = "The account was created.", body = Account),
        AnyRoute, WithAdminKey, WithBody))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn put(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    fields: Fields,
) -> Result<(StatusCode, Json<Account>), Problem> {
    let request = PutAccountRequest::read(fields)?;
    refuse_unknown_plan(&state, &admin, request.plan.as_ref()).await?;
    let handle = admin.account(&state, &account);
    let (mut account, made) = handle.ensure().await?;
    if let Some(change) = change(request.rate_limits, request.allowed_ips, request.plan) {
        account = handle.change(&change).await?;
    }
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(after_change(&state, &admin, account).await)))
}

/// Get an account
#[utoipa::path(get, path = "/v1/accounts/{account}", operation_id = "getAccount",
    tag = "accounts",
    params(AccountPath),
    responses((status = 200, description = "The account.", body = Account),
        AnyRoute, WithAdminKey, WithParameters, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
) -> Result<Json<Account>, Problem> {
    let account = state.store.find_account(&admin.tenant, &account).await?;
    let limits = state.limiter().of_account(&admin.tenant, &account).await?;
    Ok(Json(Account::new(account, Some(limits), &admin)))
}

/// Change an account
///
/// Suspends or activates the account, or replaces its rate limits, its networks or its plan. An
/// absent member keeps its value. Tollgate refuses all keys of a suspended account. Suspending an account also ends its
/// dashboard sessions and invalidates its unused dashboard links.
#[utoipa::path(patch, path = "/v1/accounts/{account}", operation_id = "patchAccount",
    tag = "accounts",
    params(AccountPath),
    request_body = Option<PatchAccountRequest>,
    responses((status = 200, description = "The account.", body = Account),
        AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug, account_id = %admin.tenant.account_id(&account)))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    AccountPath { account }: AccountPath,
    fields: Fields,
) -> Result<Json<Account>, Problem> {
    let request = PatchAccountRequest::read(fields)?;
    refuse_unknown_plan(&state, &admin, request.plan.as_ref()).await?;
    let handle = admin.account(&state, &account);
    // The status comes first, because a suspension is urgent.
    let with_status = match request.status {
        Some(status) => Some(handle.set_status(status).await?),
        None => None,
    };
    let change = change(request.rate_limits, request.allowed_ips, request.plan);
    let account = match (change, with_status) {
        (Some(change), _) => handle.change(&change).await?,
        (None, Some(account)) => account,
        (None, None) => state.store.find_account(&admin.tenant, &account).await?,
    };
    Ok(Json(after_change(&state, &admin, account).await))
}

/// List accounts
///
/// Returns the newest accounts first.
#[utoipa::path(get, path = "/v1/accounts", operation_id = "listAccounts",
    tag = "accounts",
    params(AccountPage),
    responses((status = 200, description = "A page of accounts.", body = AccountList),
        AnyRoute, WithAdminKey, WithParameters))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    params: QueryParams,
) -> Result<AccountList, Problem> {
    let page = AccountPage::read(params, format!("accounts {}", admin.tenant.id))?;
    let before = page.after.and_then(read_position);
    let accounts = state.store.list_accounts(&admin.tenant, before, page.fetch()).await?;
    let limits = state.limiter().of_accounts(&admin.tenant, &accounts).await?;
    let accounts: Vec<_> = accounts.into_iter().zip(limits).collect();
    let shape = |(account, limits)| Account::new(account, Some(limits), &admin);
    Ok(page.respond(accounts, |(account, _)| position(account), shape))
}

/// Builds the response to a change. The change has been made, even if the limits cannot be read.
async fn after_change(state: &AppState, admin: &Admin, account: store::Account) -> Account {
    let limits = state.limiter().of_account(&admin.tenant, &account).await;
    Account::new(account, limits.ok(), admin)
}

fn position(account: &store::Account) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&account.created_at.unix_micros().to_be_bytes());
    bytes[8..].copy_from_slice(account.id.uuid().as_bytes());
    bytes
}

fn read_position(bytes: [u8; 24]) -> Option<(Timestamp, Uuid)> {
    let (micros, id) = bytes.split_first_chunk::<8>()?;
    let created_at = Timestamp::from_unix_micros(i64::from_be_bytes(*micros))?;
    Some((created_at, Uuid::from_slice(id).ok()?))
}
