//! Accounts: made or read, listed, suspended and activated.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    auth::Problem,
    domain::{account::AccountStatus, tenant::Tenant, timestamp::Timestamp},
    http::api::shared::{
        admin::Admin,
        amounts::Balance,
        fields::{Fields, text},
        page::{List, Page, PageParams},
        params::{AccountInPath, AccountPath, QueryParams},
        problems::{AnyRoute, WithAdminKey, WithBody, WithParameters, WithTarget},
    },
    state::AppState,
    store,
};

/// An account of the tenant.
#[derive(Serialize, ToSchema)]
pub struct Account {
    /// The tenant's own id of it.
    #[schema(example = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC", min_length = 1, max_length = 128)]
    id: String,
    /// `active`, or `suspended`: none of its keys passes.
    #[schema(pattern = "^(active|suspended)$")]
    status: &'static str,
    balance: Balance,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Account {
    fn new(account: &store::Account, tenant: &Tenant) -> Self {
        Self {
            id: account.external_id.to_string(),
            status: account.status.as_str(),
            balance: Balance::new(account.balance, account.held, &tenant.policy.currency),
            created_at: account.created_at,
        }
    }
}

/// Nothing is said of an account but its id, which is in the path.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAccountRequest {}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchAccountRequest {
    #[schema(value_type = Option<String>, nullable = false, pattern = "^(active|suspended)$")]
    status: Option<AccountStatus>,
}

impl PatchAccountRequest {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let status = fields.change("status", text(str::parse));
        fields.finish(Some(Self { status }))
    }
}

/// Make an account, or read the one that is there.
#[utoipa::path(put, path = "/v1/accounts/{account}", operation_id = "putAccount",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath),
    request_body = Option<PutAccountRequest>,
    responses(
        (status = 200, description = "It was there", body = Account),
        (status = 201, description = "It was made", body = Account),
        AnyRoute, WithAdminKey, WithBody))]
pub async fn put(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    fields: Fields,
) -> Result<(StatusCode, Json<Account>), Problem> {
    fields.finish(Some(()))?;
    let (account, made) =
        state.store.ensure_account(&admin.tenant, &account, &admin.origin).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Account::new(&account, &admin.tenant))))
}

/// Read an account.
#[utoipa::path(get, path = "/v1/accounts/{account}", operation_id = "getAccount",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath),
    responses((status = 200, body = Account), AnyRoute, WithAdminKey, WithParameters, WithTarget))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
) -> Result<Json<Account>, Problem> {
    let account = state.store.find_account(&admin.tenant, &account).await?;
    Ok(Json(Account::new(&account, &admin.tenant)))
}

/// Suspend or activate an account.
#[utoipa::path(patch, path = "/v1/accounts/{account}", operation_id = "patchAccount",
    tag = "accounts",
    security(("admin_key" = [])),
    params(AccountPath),
    request_body = Option<PatchAccountRequest>,
    responses((status = 200, body = Account), AnyRoute, WithAdminKey, WithBody, WithTarget))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    AccountInPath(account): AccountInPath,
    fields: Fields,
) -> Result<Json<Account>, Problem> {
    let request = PatchAccountRequest::read(fields)?;
    let account = match request.status {
        Some(status) => {
            state.store.set_account_status(&admin.tenant, &account, status, &admin.origin).await?
        }
        None => state.store.find_account(&admin.tenant, &account).await?,
    };
    Ok(Json(Account::new(&account, &admin.tenant)))
}

/// List the tenant's accounts, newest first.
#[utoipa::path(get, path = "/v1/accounts", operation_id = "listAccounts",
    tag = "accounts",
    security(("admin_key" = [])), params(PageParams),
    responses((status = 200, body = List<Account>), AnyRoute, WithAdminKey, WithParameters))]
pub async fn list(
    State(state): State<AppState>,
    admin: Admin,
    params: QueryParams,
) -> Result<Json<List<Account>>, Problem> {
    let page = Page::<24>::read(params, format!("accounts {}", admin.tenant.id))?;
    let before = page.after.and_then(read_position);
    let accounts = state.store.list_accounts(&admin.tenant, before, page.fetch()).await?;
    let shape = |account: store::Account| Account::new(&account, &admin.tenant);
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
