//! The way of money between HTTP and the store.
//!
//! Every purchase and every credit goes through here, whichever door it came in by. A caller that
//! goes away while it waits for its turn has asked for nothing; once its turn has come, it does not
//! stop what it asked for: the operation runs on in a task of its own, so that a decision is never
//! cut off between its statements.

mod queues;

use std::{future::Future, sync::Arc, time::Duration};

use queues::{Queues, Turn};

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::Origin,
        idempotency::IdempotencyKey,
        money::NewCredit,
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
    queues: Arc<Queues>,
}

impl Ledger {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        // Half of the connections: a hot account slows nobody who only asks.
        let at_once = usize::try_from(store.pool_state().max / 2).unwrap_or(usize::MAX);
        Self { store, queues: Arc::new(Queues::new(at_once)) }
    }

    /// Takes a purchase off the balance, or declines it. Returns once the decision is committed.
    pub async fn purchase(
        &self,
        tenant: &Arc<Tenant>,
        request: PurchaseRequest,
    ) -> Result<PurchaseOutcome, StoreError> {
        let account = AccountId::derive(tenant.id, &request.account);
        let turn = self.queues.turn(account).await.inspect_err(|_| count(tenant, "unavailable"))?;
        let (store, tenant) = (Arc::clone(&self.store), Arc::clone(tenant));
        detached(turn, async move {
            let result = store.purchase(&tenant, &request).await;
            // Here, so that it is counted also when its caller is gone.
            count(&tenant, outcome_of(&result));
            result
        })
        .await
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
        let turn = self.queues.turn(AccountId::derive(tenant.id, &account)).await?;
        let (store, tenant) = (Arc::clone(&self.store), Arc::clone(tenant));
        detached(turn, async move {
            store.credit(&tenant, &account, &credit, &idempotency_key, &origin).await
        })
        .await
    }
}

fn outcome_of(result: &Result<PurchaseOutcome, StoreError>) -> &'static str {
    match result {
        Ok(PurchaseOutcome::Purchased { replayed: false, .. }) => "purchased",
        Ok(PurchaseOutcome::Declined { replayed: false, .. }) => "declined",
        Ok(_) => "replayed",
        Err(StoreError::Refused(Refusal::IdempotencyMismatch)) => "idempotency_mismatch",
        Err(StoreError::Refused(_)) => "refused",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Internal(_)) => "failed",
    }
}

fn count(tenant: &Tenant, outcome: &'static str) {
    metrics::counter!(
        "tollgate_purchases_total",
        "tenant" => tenant.slug.to_string(),
        "environment" => tenant.environment.as_str(),
        "outcome" => outcome,
    )
    .increment(1);
}

async fn detached<T: Send + 'static>(
    turn: Turn,
    operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let bounded = async move {
        let timed_out = |_| Err(StoreError::Unavailable("no answer in time".into()));
        let result = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
        drop(turn);
        result.unwrap_or_else(timed_out)
    };
    // An error here is a panic in the operation, or the runtime going down under it.
    tokio::spawn(bounded).await.unwrap_or_else(|error| Err(StoreError::Internal(error.into())))
}
