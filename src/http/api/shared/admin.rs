//! Authenticates requests with an admin key, and checks the permission.

use std::{ops::Deref, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{
    auth::{Challenge, ClientAddress, Credentials, CredentialsError, Problem, ProblemCode},
    domain::{
        account::ExternalId,
        api_key::{ADMIN_PREFIX, KeyHash, KeyText},
        audit::{Actor, Origin},
        id::RequestId,
        permission::Permission,
        tenant::{Tenant, TenantStatus},
        text_enum::text_enum,
        timestamp::Timestamp,
    },
    http::transport::logged_tenant::LoggedTenant,
    state::AppState,
    store::{AccountHandle, AdminVerification, set_tenant},
};

/// The verified admin key of a request. [`admit`] adds it to the extensions of every request that
/// it accepts.
#[derive(Clone, Debug)]
pub struct Admin(Arc<AdminParts>);

#[derive(Debug)]
pub struct AdminParts {
    pub tenant: Arc<Tenant>,
    /// Allows a second verification of the admin key, after a slow body or during a long response.
    pub key_hash: KeyHash,
    /// The actor and the client's address, for the audit trail.
    pub origin: Origin,
    /// Time at which the key was verified, by the database's clock.
    pub now: Timestamp,
}

impl Deref for Admin {
    type Target = AdminParts;

    fn deref(&self) -> &AdminParts {
        &self.0
    }
}

impl Admin {
    /// Returns a handle that changes an account of the tenant.
    pub fn account<'a>(
        &'a self,
        state: &'a AppState,
        account: &'a ExternalId,
    ) -> AccountHandle<'a> {
        state.store.account(&self.tenant, account, &self.origin)
    }

    /// Verifies the key again, because it may have been revoked since. Its permissions never
    /// change.
    pub async fn verify_again(&self, state: &AppState) -> Result<(), Problem> {
        verify(state, &self.key_hash).await.map(drop)
    }
}

text_enum! {
    /// The reason why an admin key is refused. The log contains it, but the response does not.
    enum AdminKeyDenial {
        /// The text does not have the form of an admin key.
        Malformed = "malformed_admin_key",
        /// There is no such admin key.
        NotFound = "not_found",
        /// The admin key is revoked.
        Revoked = "revoked",
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let admin = parts.extensions.get::<Self>().cloned();
        admin.ok_or_else(|| Problem::internal("the handler has no admin layer"))
    }
}

/// Accepts a request only if it carries an admin key with the permission.
pub async fn admit(
    State((state, permission)): State<(AppState, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    let (key_hash, verification) = match authenticate(&state, request.headers()).await {
        Ok(authenticated) => authenticated,
        Err(problem) => return problem.into_response(),
    };
    let client = request.extensions().get::<ClientAddress>();
    let admin = Admin(Arc::new(AdminParts {
        tenant: verification.tenant,
        key_hash,
        origin: Origin {
            actor: Actor::AdminKey(verification.id),
            address: client.map(|client| client.0),
            request_id: request.extensions().get::<RequestId>().copied(),
        },
        now: verification.now,
    }));
    let mut response = if verification.permissions.has(permission) {
        request.extensions_mut().insert(admin.clone());
        set_tenant(admin.tenant.id);
        next.run(request).await
    } else {
        lacking(permission).into_response()
    };
    // The outer layers write the log, but no longer have the request.
    response.extensions_mut().insert(LoggedTenant(Arc::clone(&admin.tenant)));
    response
}

async fn authenticate(
    state: &AppState,
    headers: &HeaderMap,
) -> Result<(KeyHash, AdminVerification), Problem> {
    let key_hash = read_key(headers)?.hash();
    Ok((key_hash, verify(state, &key_hash).await?))
}

async fn verify(state: &AppState, key_hash: &KeyHash) -> Result<AdminVerification, Problem> {
    let verification = state.store.verify_admin_key(key_hash).await?;
    let verification = verification.ok_or_else(|| invalid(AdminKeyDenial::NotFound))?;
    if verification.revoked {
        return Err(invalid(AdminKeyDenial::Revoked));
    }
    if verification.tenant_status == TenantStatus::Suspended {
        return Err(Problem::new(
            ProblemCode::TenantSuspended,
            "The admin key is live, but its tenant is suspended. Ask the operator of Tollgate to \
             resume the tenant.",
        ));
    }
    Ok(verification)
}

fn read_key(headers: &HeaderMap) -> Result<KeyText, Problem> {
    match Credentials::read_bearer(headers).map(Credentials::into_key) {
        Ok(key) if key.prefix() == ADMIN_PREFIX => Ok(key),
        Ok(_) | Err(CredentialsError::Malformed) => Err(invalid(AdminKeyDenial::Malformed)),
        Err(CredentialsError::Missing | CredentialsError::Conflicting) => {
            Err(Problem::unauthorized(
                ProblemCode::MissingAdminKey,
                "The request contains no admin key, or different admin keys. Send one in the \
                 header Authorization: Bearer tg_admin_…",
                Challenge::Bare,
            ))
        }
    }
}

fn invalid(denial: AdminKeyDenial) -> Problem {
    Problem::unauthorized(
        ProblemCode::InvalidAdminKey,
        "The admin key is unknown or revoked. Check that you copied all of it.",
        Challenge::InvalidToken,
    )
    .because(denial.as_str())
}

fn lacking(permission: Permission) -> Problem {
    Problem::new(
        ProblemCode::InsufficientPermission,
        format!("The admin key lacks the permission {permission}. Use an admin key that has it."),
    )
    .with("required_permission", permission.as_str())
}
