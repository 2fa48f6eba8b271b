//! The dashboard settings of a platform: its branding, its return origins, sign-in with a wallet,
//! whether owners may lower rate limits, and which addresses of clients are shown.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::{
        dashboard::{
            self, AccentColor, DisplayName, Logo, LogoMediaType, LogoRef, ReturnOrigins,
            WalletSignIn, WebOrigin,
        },
        key_clients::ClientAddresses,
        tenant::Tenant,
    },
    http::api::shared::{
        admin::Admin,
        fields::{Fields, Patch, Wrong, boolean, text, texts},
        problems::{AnyRoute, WithAdminKey, WithBody},
    },
    state::AppState,
    store::DashboardChange,
};

/// Maximum size of a body in bytes. It is enough for a logo of 32 KiB in base64 and the other
/// settings.
pub const BODY_BYTES: usize = 64 * 1024;

/// The settings of the dashboard.
#[derive(Serialize, ToSchema)]
pub struct DashboardSettings {
    /// The platform's name in the dashboard. `null` if the dashboard shows the tenant's slug.
    #[schema(required = true)]
    name: Option<DisplayName>,
    /// The colour of buttons and links. `null` if the dashboard uses Tollgate's colour.
    #[schema(required = true)]
    color: Option<AccentColor>,
    #[schema(required = true)]
    logo: Option<DashboardLogo>,
    return_origins: ReturnOrigins,
    wallet_sign_in: WalletSignIn,
    /// Whether the owner of an account may lower the rate limits of its keys.
    owner_rate_limits: bool,
    /// Which addresses of clients Tollgate stores and shows for the keys of the tenant.
    client_addresses: ClientAddresses,
}

/// The platform's logo.
#[derive(Serialize, ToSchema)]
pub struct DashboardLogo {
    /// The URL of the logo. A new logo gets a new URL.
    #[schema(format = "uri")]
    url: String,
    media_type: LogoMediaType,
}

impl DashboardSettings {
    fn new(
        settings: dashboard::DashboardSettings,
        tenant: &Tenant,
        public_url: &WebOrigin,
    ) -> Self {
        let logo = |logo: LogoRef| DashboardLogo {
            url: format!("{public_url}{}", logo.path(tenant.id)),
            media_type: logo.media_type,
        };
        Self {
            name: settings.name,
            color: settings.color,
            logo: settings.logo.map(logo),
            return_origins: settings.return_origins,
            wallet_sign_in: settings.wallet_sign_in,
            owner_rate_limits: settings.owner_rate_limits,
            client_addresses: settings.client_addresses,
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchDashboardSettingsRequest {
    /// The platform's name in the dashboard. With `null`, the dashboard shows the tenant's slug.
    #[schema(value_type = Option<DisplayName>)]
    name: Patch<DisplayName>,
    /// The dashboard derives readable shades from this colour. `null` restores Tollgate's colour.
    #[schema(value_type = Option<AccentColor>)]
    color: Patch<AccentColor>,
    /// The platform's logo. `null` removes the logo.
    #[schema(value_type = Option<Logo>)]
    logo: Patch<Logo>,
    /// Replaces all return origins.
    #[schema(nullable = false)]
    return_origins: Option<ReturnOrigins>,
    /// Must be `off` unless the tenant's account ids are TRON addresses.
    #[schema(nullable = false)]
    wallet_sign_in: Option<WalletSignIn>,
    /// Whether the owner of an account may lower the rate limits of its keys. The owner can never
    /// raise a limit above the platform's number.
    #[schema(nullable = false)]
    owner_rate_limits: Option<bool>,
    /// Which addresses of clients Tollgate stores and shows for the keys of the tenant. Addresses
    /// that are already stored are shown in the same way.
    #[schema(nullable = false)]
    client_addresses: Option<ClientAddresses>,
}

impl PatchDashboardSettingsRequest {
    fn read(mut fields: Fields, tenant: &Tenant) -> Result<Self, Problem> {
        let request = Self {
            name: fields.patch("name", text(DisplayName::parse)),
            color: fields.patch("color", text(AccentColor::parse)),
            logo: fields.patch("logo", text(Logo::from_base64)),
            return_origins: fields.change("return_origins", return_origins),
            wallet_sign_in: fields
                .change("wallet_sign_in", text(|text| wallet_sign_in(text, tenant))),
            owner_rate_limits: fields.change("owner_rate_limits", boolean),
            client_addresses: fields.change("client_addresses", text(str::parse)),
        };
        fields.finish(Some(request))
    }
}

impl From<PatchDashboardSettingsRequest> for DashboardChange {
    fn from(request: PatchDashboardSettingsRequest) -> Self {
        Self {
            name: request.name.into_change(),
            color: request.color.into_change(),
            logo: request.logo.into_change(),
            return_origins: request.return_origins,
            wallet_sign_in: request.wallet_sign_in,
            owner_rate_limits: request.owner_rate_limits,
            client_addresses: request.client_addresses,
        }
    }
}

fn return_origins(value: Value) -> Result<ReturnOrigins, Wrong> {
    Ok(ReturnOrigins::new(texts(WebOrigin::parse)(value)?)?)
}

fn wallet_sign_in(text: &str, tenant: &Tenant) -> Result<WalletSignIn, String> {
    let wallet_sign_in = text.parse::<WalletSignIn>().map_err(|error| error.to_string())?;
    if wallet_sign_in.fits(tenant.policy.account_format) {
        Ok(wallet_sign_in)
    } else {
        Err("must be off, because the tenant's account ids are not TRON addresses".to_owned())
    }
}

/// Get the dashboard settings
#[utoipa::path(get, path = "/v1/dashboard-settings", operation_id = "getDashboardSettings",
    tag = "dashboard",
    responses((status = 200, description = "The settings.", body = DashboardSettings),
        AnyRoute, WithAdminKey))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
) -> Result<Json<DashboardSettings>, Problem> {
    let settings = state.store.dashboard_settings(&admin.tenant).await?;
    Ok(Json(DashboardSettings::new(settings, &admin.tenant, state.public_url())))
}

/// Change the dashboard settings
///
/// An absent member keeps its value, and `null` clears it.
#[utoipa::path(patch, path = "/v1/dashboard-settings", operation_id = "patchDashboardSettings",
    tag = "dashboard",
    request_body = Option<PatchDashboardSettingsRequest>,
    responses((status = 200, description = "The settings.", body = DashboardSettings),
        AnyRoute, WithAdminKey, WithBody))]
#[tracing::instrument(level = "debug", skip_all, fields(tenant = %admin.tenant.slug))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    fields: Fields,
) -> Result<Json<DashboardSettings>, Problem> {
    let request = PatchDashboardSettingsRequest::read(fields, &admin.tenant)?;
    let change = DashboardChange::from(request);
    let settings =
        state.store.change_dashboard_settings(&admin.tenant, &change, &admin.origin).await?;
    Ok(Json(DashboardSettings::new(settings, &admin.tenant, state.public_url())))
}
