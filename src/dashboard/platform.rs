//! Reads the platform from the path of a sign-in page. Only platforms whose accounts may sign in
//! with a wallet have such pages.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::request::Parts,
};

use super::{
    brand::tenant_frame,
    pages::frame::{Frame, Nav},
};
use crate::{
    domain::{
        dashboard::{DashboardSettings, WalletSignIn},
        tenant::{Environment, Slug, Tenant, TenantStatus},
    },
    state::AppState,
    store::set_tenant,
    web::{failure::Failure, links::Link, paths::InPath},
};

/// The platform in the path, whose accounts may sign in with a wallet.
pub struct Platform {
    pub tenant: Arc<Tenant>,
    pub settings: DashboardSettings,
}

impl FromRequestParts<AppState> for Platform {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Failure> {
        let InPath(slug) = InPath::<String>::from_request_parts(parts, state).await?;
        let slug: Slug = slug.parse().map_err(|_| Failure::NotFound)?;
        let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let is_test = route.is_some_and(|route| route.contains("/test/"));
        let environment = if is_test { Environment::Test } else { Environment::Live };
        Self::find(state, &slug, environment).await
    }
}

impl Platform {
    /// Finds a platform whose accounts may sign in with a wallet. For any other platform, returns
    /// [`Failure::NotFound`], and while the platform is suspended, [`Failure::PlatformSuspended`].
    pub async fn find(
        state: &AppState,
        slug: &Slug,
        environment: Environment,
    ) -> Result<Self, Failure> {
        let tenant = state.store().find_tenant(slug, environment).await?;
        set_tenant(tenant.id);
        let settings = state.store().dashboard_settings(&tenant).await?;
        let policy = settings.wallet_sign_in;
        if policy == WalletSignIn::Off || !policy.fits(tenant.policy.account_format) {
            return Err(Failure::NotFound);
        }
        if state.store().tenant_status(&tenant).await? == TenantStatus::Suspended {
            return Err(Failure::PlatformSuspended);
        }
        Ok(Self { tenant, settings })
    }

    /// Returns the frame of a page without a session.
    pub fn frame_when_out(&self, title: &str) -> Frame {
        tenant_frame(&self.tenant, &self.settings, title, Nav::Nowhere)
    }

    /// Returns the link to the sign-in page.
    pub fn sign_in_link(&self) -> Link {
        Link { label: "Sign in again".to_owned(), url: self.login_url() }
    }

    /// Returns the path of the sign-in page.
    pub fn login_url(&self) -> String {
        match self.tenant.environment {
            Environment::Live => format!("/dashboard/{}/login", self.tenant.slug),
            Environment::Test => format!("/dashboard/{}/test/login", self.tenant.slug),
        }
    }
}
