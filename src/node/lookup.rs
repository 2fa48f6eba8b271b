use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tracing::warn;

use crate::{
    auth::{Denial, Denied, KeyLookup, Presented, Principal, PrincipalParts, Verdict},
    clock,
    domain::{server::ServerId, tenant::Tenant},
    store::{KeyRead, Store, StoreError, Verification},
};

/// Looks the SHA-256 of a key up in the database.
pub struct StoreLookup {
    store: Arc<Store>,
    /// The second since boot in which a failure was last logged.
    failure_logged: AtomicU64,
}

impl StoreLookup {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, failure_logged: AtomicU64::new(0) }
    }

    /// Logs the cause, which the denial does not have. It does so at most once a second, because in
    /// an outage every request with a key that is not cached fails.
    fn unavailable(&self, error: &StoreError) -> Denied {
        let second = clock::since_boot().as_secs();
        if self.failure_logged.swap(second, Ordering::Relaxed) != second {
            warn!(error = error as &dyn std::error::Error, "keys could not be looked up");
        }
        Denial::Unavailable.into()
    }
}

impl KeyLookup for StoreLookup {
    async fn look_up(&self, presented: &Presented<'_>, server: ServerId) -> Option<Verdict> {
        let key = presented.key;
        let tenant = match self.store.tenant_of_key(key).await {
            Ok(Some(tenant)) => tenant,
            Ok(None) => return Some(Err(Denial::NotFound.into())),
            Err(error) => return Some(Err(self.unavailable(&error))),
        };
        match self.store.verify_api_key(&tenant, &key.hash(), server).await {
            Ok(KeyRead::Found(verification)) => Some(judge(&tenant, verification)),
            Ok(KeyRead::NotFound) => Some(Err(Denial::NotFound.into())),
            Ok(KeyRead::OtherServer) => None,
            Err(error) => Some(Err(self.unavailable(&error))),
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
