//! The way of money between HTTP and the store.
//!
//! Every purchase and every credit goes through here, whichever door it came in by. A caller that
//! goes away does not stop what it asked for: the operation runs on in a task of its own, so that
//! a decision is never cut off between its statements.

use std::{future::Future, sync::Arc, time::Duration};

use crate::{
    domain::{
        account::ExternalId, audit::Origin, idempotency::IdempotencyKey, money::NewCredit,
        tenant::Tenant,
    },
    store::{Credited, PurchaseOutcome, PurchaseRequest, Refusal, Store, StoreError},
};

/// After this an operation is given up, and with it its connection: the database bounds each
/// statement by itself, unless it has stopped answering. Its caller had its 503 long before.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Purchases and credits.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<Store>,
}

impl Ledger {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Takes a purchase off the balance, or declines it. Returns once the decision is committed.
    pub async fn purchase(
        &self,
        tenant: &Arc<Tenant>,
        request: PurchaseRequest,
    ) -> Result<PurchaseOutcome, StoreError> {
        let (store, owned) = (Arc::clone(&self.store), Arc::clone(tenant));
        let result = detached(async move { store.purchase(&owned, &request).await }).await;
        let outcome = match &result {
            Ok(PurchaseOutcome::Purchased { replayed: false, .. }) => "purchased",
            Ok(PurchaseOutcome::Declined { replayed: false, .. }) => "declined",
            Ok(_) => "replayed",
            Err(StoreError::Refused(Refusal::IdempotencyMismatch)) => "idempotency_mismatch",
            Err(StoreError::Refused(_)) => "refused",
            Err(StoreError::Unavailable(_)) => "unavailable",
            Err(StoreError::Internal(_)) => "failed",
        };
        metrics::counter!(
            "tollgate_purchases_total",
            "tenant" => tenant.slug.to_string(),
            "environment" => tenant.environment.as_str(),
            "outcome" => outcome,
        )
        .increment(1);
        result
    }

    /// Tops an account up. Returns once it is committed.
    pub async fn credit(
        &self,
        tenant: &Arc<Tenant>,
        account: ExternalId,
        credit: NewCredit,
        idempotency_key: IdempotencyKey,
        origin: Origin,
    ) -> Result<Credited, StoreError> {
        let (store, tenant) = (Arc::clone(&self.store), Arc::clone(tenant));
        detached(async move {
            store.credit(&tenant, &account, &credit, &idempotency_key, &origin).await
        })
        .await
    }
}

async fn detached<T: Send + 'static>(
    operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let bounded = async move {
        let timed_out = |_| Err(StoreError::Unavailable("no answer in time".into()));
        tokio::time::timeout(OPERATION_TIMEOUT, operation).await.unwrap_or_else(timed_out)
    };
    // An error here is a panic in the operation, or the runtime going down under it.
    tokio::spawn(bounded).await.unwrap_or_else(|error| Err(StoreError::Internal(error.into())))
}
