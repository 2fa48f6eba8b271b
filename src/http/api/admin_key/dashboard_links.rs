//! Creates dashboard links, which a platform's users open to enter the dashboard.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::{
        account::ExternalId,
        dashboard::{LinkSeconds, ReturnOrigins, ReturnUrl, ReturnUrlError, link_url},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    entropy,
    http::api::shared::{
        admin::Admin,
        fields::{Fields, integer, text},
        problems::{AnyRoute, WithAdminKey, WithBody, WithTarget},
    },
    state::AppState,
    store::StoreError,
};

/// A link to the dashboard of one account.
#[derive(Serialize, ToSchema)]
pub struct DashboardLink {
    /// The link, which works once. Redirect the user's browser to it, or send it in an email or a
    /// chat. If the browser comes from one of the `return_origins`, the link opens a session
    /// immediately. Otherwise a page first asks the user to confirm. Only this response contains
    /// the link.
    #[schema(
        format = "uri",
        example = "https://keys.example.com/dashboard/enter?token=aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789_-aBcDe"
    )]
    url: String,
    /// Time at which the link expires.
    expires_at: Timestamp,
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDashboardLinkRequest {
    /// Account whose dashboard the link opens. Your platform must have logged in the owner of the
    /// account.
    account: ExternalId,
    /// URL of the page that the dashboard links back to. Its origin must be one of the
    /// `return_origins` of the dashboard settings.
    return_url: Option<ReturnUrl>,
    /// Seconds until the link expires. Choose a longer time for a link in an email or a chat.
    expires_in: Option<LinkSeconds>,
}

/// The reason why a return URL is refused.
#[derive(Debug, thiserror::Error)]
enum WrongReturn {
    #[error(transparent)]
    Url(#[from] ReturnUrlError),
    #[error("has the origin {0}, which is not one of the return_origins in the dashboard settings")]
    Origin(String),
}

impl CreateDashboardLinkRequest {
    fn read(mut fields: Fields, tenant: &Tenant, origins: &ReturnOrigins) -> Result<Self, Problem> {
        let format = tenant.policy.account_format;
        let account = fields.required("account", text(|name| ExternalId::parse(name, format)));
        let return_url = fields.optional("return_url", text(|url| registered(url, origins)));
        let expires_in = fields.optional("expires_in", integer(LinkSeconds::try_from));
        fields.finish(account.map(|account| Self { account, return_url, expires_in }))
    }
}

fn registered(url: &str, origins: &ReturnOrigins) -> Result<ReturnUrl, WrongReturn> {
    let url = ReturnUrl::parse(url)?;
    if origins.allow(&url) { Ok(url) } else { Err(WrongReturn::Origin(url.origin().to_string())) }
}

/// Create a dashboard link
///
/// The link opens the dashboard of one account. It works once, and only until it expires. Redirect
/// a logged-in user to the link from a page on one of the `return_origins`, or send it in an email
/// or a chat. A user who comes from another site must press a button before the session opens, so a
/// mail scanner or a chat preview does not use up the link. The permissions of this admin key
/// determine what the session can access. `keys` gives access to keys and holds, and `audit` gives
/// access to the balance, the statement, purchases and the security log. The session ends when the
/// admin key is revoked.
#[utoipa::path(post, path = "/v1/dashboard-links", operation_id = "createDashboardLink",
    tag = "dashboard",
    request_body = CreateDashboardLinkRequest,
    responses(
        (status = 201, description = "The new link.", body = DashboardLink),
        AnyRoute, WithAdminKey, WithBody, WithTarget))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn create(
    State(state): State<AppState>,
    admin: Admin,
    fields: Fields,
) -> Result<(StatusCode, Json<DashboardLink>), Problem> {
    let settings = state.store.dashboard_settings(&admin.tenant).await?;
    let request =
        CreateDashboardLinkRequest::read(fields, &admin.tenant, &settings.return_origins)?;
    let token = entropy::new_session_token().map_err(StoreError::from)?;
    let account = admin.account(&state, &request.account);
    let (return_url, expires_in) = (request.return_url.as_ref(), request.expires_in);
    let link =
        account.create_dashboard_link(&token, return_url, expires_in.unwrap_or_default()).await?;
    // No other response contains the token.
    let url = link_url(state.public_url(), &token);
    Ok((StatusCode::CREATED, Json(DashboardLink { url, expires_at: link.expires_at })))
}
