//! The branding of a platform: its name, its colour and its logo.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};

use super::{
    assets,
    pages::frame::{Frame, Nav},
};
use crate::{
    domain::{
        dashboard::{AccentColor, DashboardSettings, LogoHash, Palette, Rgb, Shades},
        id::TenantId,
        tenant::{Environment, Tenant},
    },
    state::AppState,
    web::{failure::Failure, paths::InPath, respond::FOR_EVER},
};

/// Browsers cache a colour only for a day, because a later version may derive other shades from it.
const FOR_A_DAY: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));

/// Returns the frame of a page that belongs to no tenant.
pub fn plain_frame(title: impl Into<String>, nav: Nav) -> Frame {
    Frame {
        title: title.into(),
        tenant_name: "Tollgate".to_owned(),
        test: false,
        logo_url: None,
        accent_url: None,
        css_url: assets::url("dashboard.css"),
        theme_url: assets::url("theme.js"),
        js_url: assets::url("dashboard.js"),
        icon_url: assets::url("favicon.svg"),
        nav,
        account: None,
        csrf: String::new(),
        notice: None,
        errors: Vec::new(),
    }
}

/// Returns the frame of a tenant's page.
pub fn tenant_frame(
    tenant: &Tenant,
    settings: &DashboardSettings,
    title: impl Into<String>,
    nav: Nav,
) -> Frame {
    let accent_url = |color: AccentColor| format!("/dashboard/accent/{}.css", color.digits());
    Frame {
        tenant_name: settings.shown_name(tenant).to_owned(),
        test: tenant.environment == Environment::Test,
        logo_url: settings.logo.map(|logo| logo.path(tenant.id)),
        accent_url: settings.color.map(accent_url),
        ..plain_frame(title, nav)
    }
}

/// Serves the style sheet of a colour. The style sheet depends only on the path.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn accent(InPath(file): InPath<String>) -> Result<Response, Failure> {
    let digits = file.strip_suffix(".css").ok_or(Failure::NotFound)?;
    let color = AccentColor::from_digits(digits).map_err(|_| Failure::NotFound)?;
    let palette = color.palette();
    let css = format!(":root{{{}}}\n", properties(palette));
    let css_type = (header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    Ok(([css_type, FOR_A_DAY], css).into_response())
}

/// Returns the CSS custom properties of a palette. Each property has one value for the light theme
/// and one for the dark theme.
fn properties(palette: Palette) -> String {
    let Palette { light, dark } = palette;
    let property = |name: &str, shade: fn(Shades) -> Rgb| {
        format!("--{name}:light-dark({},{});", shade(light), shade(dark))
    };
    [
        property("accent", |shades| shades.accent),
        property("accent-text", |shades| shades.accent_text),
        property("accent-ink", |shades| shades.accent_ink),
    ]
    .concat()
}

/// Serves a tenant's logo. The logo is public, because pages without a session show it too.
#[tracing::instrument(level = "debug", skip_all)]
pub async fn logo(
    State(state): State<AppState>,
    InPath((tenant, hash)): InPath<(String, String)>,
) -> Result<Response, Failure> {
    let tenant: TenantId = tenant.parse().map_err(|_| Failure::NotFound)?;
    let hash: LogoHash = hash.parse().map_err(|_| Failure::NotFound)?;
    let logo = state.store().dashboard_logo(tenant, hash.as_bytes()).await?;
    let logo = logo.ok_or(Failure::NotFound)?;
    let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(logo.media_type().as_str()));
    Ok(([media_type, FOR_EVER], logo.into_bytes()).into_response())
}
