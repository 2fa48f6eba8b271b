use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tracing::warn;

use crate::{
    auth::{Denial, Denied, KeyVerifier, Presented, Principal, PrincipalParts, Verdict},
    clock,
    domain::tenant::Tenant,
    store::{Store, StoreError, Verification},
};

/// Verifies a key by looking its SHA-256 up in the database.
pub struct StoreVerifier {
    store: Arc<Store>,
    /// The second since boot in which a failure was last logged.
    failure_logged: AtomicU64,
}

impl StoreVerifier {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, failure_logged: AtomicU64::new(0) }
    }

    /// Logs the cause, which the denial does not have: once a second, because in an outage every
    /// request with a key that is not cached fails.
    fn unavailable(&self, error: &StoreError) -> Denied {
        let second = clock::since_boot().as_secs();
        if self.failure_logged.swap(second, Ordering::Relaxed) != second {
            warn!(error = error as &dyn std::error::Error, "keys could not be looked up");
        }
        Denial::Unavailable.into()
    }
}

impl KeyVerifier for StoreVerifier {
    async fn verify(&self, presented: &Presented<'_>) -> Verdict {
        let key = presented.key;
        let tenant = match self.store.tenant_of_key(key).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return Err(Denial::NotFound.into()),
            Err(error) => return Err(self.unavailable(&error)),
        };
        match self.store.verify_api_key(&tenant, &key.hash()).await {
            Ok(Some(verification)) => judge(&tenant, verification),
            Ok(None) => Err(Denial::NotFound.into()),
            Err(error) => Err(self.unavailable(&error)),
        }
    }
}

fn judge(tenant: &Tenant, verification: Verification) -> Verdict {
    let principal = Principal::new(
        PrincipalParts::new(
            tenant.slug.clone(),
            tenant.environment,
            verification.account,
            verification.key_id,
            verification.scopes,
        )
        .expiring(verification.expires_at),
    );
    match verification.verdict {
        Ok(()) => Ok(principal),
        Err(reason) => Err(Denied::of(principal, reason)),
    }
}
