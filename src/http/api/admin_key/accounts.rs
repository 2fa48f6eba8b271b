//! Creates, reads, lists, suspends and activates accounts.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{
        account::{AccountStatus, ExternalId},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    http::api::shared::{
        admin::Admin,
        amounts::Balance,
        fields::{Fields, text},
        page::{List, Page},
        params::{AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithBody, WithParameters, WithTarget},
    },
    state::AppState,
    store,
};

/// An account of the tenant.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// The tenant's own id for the account.
    id: ExternalId,
    status: AccountStatus,
    balance: Balance,
    created_at: Timestamp,
}

pub type AccountList = List<Account>;

/// The part of a list of accounts that `limit` and `cursor` select.
type AccountPage = Page<24>;

impl Account {
    fn new(account: store::Account, tenant: &Tenant) -> Self {
        Self {
            id: account.external_id,
            status: account.status,
            balance: Balance::new(account.balance, account.held, &tenant.policy.currency),
            created_at: account.created_at,
        }
    }
}

/// An empty object. The path contains the id of the account.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccountRequest {}

impl PutAccountRequest {
    fn read(fields: Fields) -> Result<Self, Problem> {
        fields.finish(Some(Self {}))
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchAccountRequest {
    #[schema(nullable = false)]
    status: Option<AccountStatus>,
}

impl PatchAccountRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let status = fields.change("status", text(str::parse));
        fields.finish(Some(Self { status }))
    }
}

/// Create an account
///
/// Returns the account if it already exists.
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
    let PutAccountRequest {} = PutAccountRequest::read(fields)?;
    let (account, made) = admin.account(&state, &account).ensure().await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Account::new(account, &admin.tenant))))
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
    Ok(Json(Account::new(account, &admin.tenant)))
}

/// Suspend or activate an account
///
/// Tollgate refuses all keys of a suspended account. Suspending an account also ends its dashboard
/// sessions and invalidates its unused dashboard links.
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
    let account = match request.status {
        Some(status) => admin.account(&state, &account).set_status(status).await?,
        None => state.store.find_account(&admin.tenant, &account).await?,
    };
    Ok(Json(Account::new(account, &admin.tenant)))
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
    let shape = |account: store::Account| Account::new(account, &admin.tenant);
    Ok(page.respond(accounts, position, shape))
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
