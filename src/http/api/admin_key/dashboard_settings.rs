//! How a platform's dashboard looks, where it leads back to, and whether wallets may sign in.

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    auth::Problem,
    domain::{
        dashboard::{
            self, AccentColor, DisplayName, Logo, LogoRef, ReturnOrigins, SignInPolicy, WebOrigin,
        },
        tenant::Tenant,
    },
    http::api::shared::{
        admin::Admin,
        fields::{Fields, Patch, Wrong, text, texts},
        problems::{AnyRoute, WithAdminKey, WithBody},
    },
    state::AppState,
    store::DashboardChange,
};

/// Bytes of a body: a logo of 32 KiB in base64, and the rest.
pub const BODY_BYTES: usize = 64 * 1024;

/// The settings of the dashboard.
#[derive(Serialize, ToSchema)]
pub struct DashboardSettings {
    /// What the platform is called there; `null`: its slug is shown.
    #[schema(required = true, max_length = 60, example = "TronAgg")]
    name: Option<String>,
    /// The colour of its buttons and links; `null`: Tollgate's own.
    #[schema(required = true, pattern = "^#[0-9a-f]{6}$", example = "#0f62fe")]
    color: Option<String>,
    #[schema(required = true)]
    logo: Option<DashboardLogo>,
    /// Where links back to the platform may lead.
    #[schema(example = json!(["https://app.example.com"]))]
    return_origins: Vec<String>,
    /// `off`, `existing`: to accounts that are there, or `create`: the account is made at the first
    /// sign-in.
    #[schema(pattern = "^(off|existing|create)$")]
    wallet_sign_in: &'static str,
}

/// A logo.
#[derive(Serialize, ToSchema)]
pub struct DashboardLogo {
    /// Where it is served. A new logo gets a new address.
    url: String,
    #[schema(pattern = "^image/(png|jpeg|webp)$")]
    media_type: &'static str,
}

impl DashboardSettings {
    fn new(
        settings: &dashboard::DashboardSettings,
        tenant: &Tenant,
        public_url: &WebOrigin,
    ) -> Self {
        let logo = |logo: LogoRef| DashboardLogo {
            url: format!("{public_url}{}", logo.path(tenant.id)),
            media_type: logo.logo_type.media_type(),
        };
        Self {
            name: settings.name.as_ref().map(|name| name.as_str().to_owned()),
            color: settings.color.map(|color| color.to_string()),
            logo: settings.logo.map(logo),
            return_origins: settings.return_origins.to_strings(),
            wallet_sign_in: settings.wallet_sign_in.as_str(),
        }
    }
}

#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape of the body, for the OpenAPI document")]
pub struct PatchDashboardSettingsRequest {
    /// 1 to 60 characters after trimming; `null`: the slug is shown.
    #[schema(min_length = 1, max_length = 60)]
    name: Option<String>,
    /// `#` and six hexadecimal digits. Shades of it that can be read are made out of it.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$")]
    color: Option<String>,
    /// A PNG, JPEG or WebP file of at most 32 KiB, in base64; `null`: none.
    #[schema(max_length = 43692)]
    logo: Option<String>,
    /// Origins such as `https://app.example.com`; `http` for a loopback host alone. Replaced whole.
    #[schema(nullable = false, max_items = 20)]
    return_origins: Option<Vec<String>>,
    /// Other than `off` only where accounts are TRON addresses.
    #[schema(nullable = false, pattern = "^(off|existing|create)$")]
    wallet_sign_in: Option<String>,
}

impl PatchDashboardSettingsRequest {
    fn read(mut fields: Fields, tenant: &Tenant) -> Result<DashboardChange, Problem> {
        let change = DashboardChange {
            name: clearable(fields.patch("name", text(DisplayName::parse))),
            color: clearable(fields.patch("color", text(AccentColor::parse))),
            logo: clearable(fields.patch("logo", text(Logo::from_base64))),
            return_origins: fields.change("return_origins", return_origins),
            wallet_sign_in: fields.change("wallet_sign_in", text(|text| policy(text, tenant))),
        };
        fields.finish(Some(change))
    }
}

fn clearable<T>(patch: Patch<T>) -> Option<Option<T>> {
    match patch {
        Patch::Keep => None,
        Patch::Clear => Some(None),
        Patch::Set(value) => Some(Some(value)),
    }
}

fn return_origins(value: Value) -> Result<ReturnOrigins, Wrong> {
    Ok(ReturnOrigins::new(texts(WebOrigin::parse)(value)?)?)
}

fn policy(text: &str, tenant: &Tenant) -> Result<SignInPolicy, &'static str> {
    let policy: SignInPolicy = text.parse()?;
    if policy.fits(tenant.policy.account_format) {
        Ok(policy)
    } else {
        Err("must be off: the tenant's accounts are no TRON addresses")
    }
}

/// Read the settings of the dashboard.
#[utoipa::path(get, path = "/v1/dashboard-settings", operation_id = "getDashboardSettings",
    tag = "dashboard",
    security(("admin_key" = [])),
    responses((status = 200, body = DashboardSettings), AnyRoute, WithAdminKey))]
pub async fn get(
    State(state): State<AppState>,
    admin: Admin,
) -> Result<Json<DashboardSettings>, Problem> {
    let settings = state.store.dashboard_settings(&admin.tenant).await?;
    Ok(Json(DashboardSettings::new(&settings, &admin.tenant, state.public_url())))
}

/// Change the settings of the dashboard. Absent keeps, `null` clears.
#[utoipa::path(patch, path = "/v1/dashboard-settings", operation_id = "patchDashboardSettings",
    tag = "dashboard",
    security(("admin_key" = [])),
    request_body = Option<PatchDashboardSettingsRequest>,
    responses((status = 200, body = DashboardSettings), AnyRoute, WithAdminKey, WithBody))]
pub async fn patch(
    State(state): State<AppState>,
    admin: Admin,
    fields: Fields,
) -> Result<Json<DashboardSettings>, Problem> {
    let change = PatchDashboardSettingsRequest::read(fields, &admin.tenant)?;
    let settings =
        state.store.change_dashboard_settings(&admin.tenant, &change, &admin.origin).await?;
    Ok(Json(DashboardSettings::new(&settings, &admin.tenant, state.public_url())))
}
