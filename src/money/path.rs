use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::warn;

use super::batcher::Batcher;
use crate::{
    clock,
    domain::{
        account::{AccountId, ExternalId},
        amount::Amount,
        audit::Origin,
        credit::NewCredit,
        hold::{HoldStatus, NewHold},
        id::{HoldId, KeyId, PurchaseId, RequestId, TenantId},
        idempotency::IdempotencyKey,
        purchase::NewPurchase,
        refund::NewRefund,
        tenant::Tenant,
        timestamp::Timestamp,
    },
    entropy,
    store::{
        BatchOutcome, Credited, Decline, Done, DoneNow, Hold, Operation, OperationAction, Places,
        Purchase, Refunded, Store, StoreError, of_request,
    },
};

/// Time limit of a credit or a refund, including retries. The database also limits each statement,
/// unless it has stopped responding.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of retries of a credit or a refund after a lost connection.
const RETRIES: u32 = 5;

/// Time limit of one attempt of a credit or a refund.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// The first pause between two attempts of a credit or a refund. Each pause is twice the previous
/// one.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Interval between two searches for expired holds.
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of accounts whose holds one round releases.
const RELEASED_AT_ONCE: i64 = 1000;

/// The operations on money: purchases, holds, credits and refunds.
#[derive(Clone)]
pub struct Money {
    store: Arc<Store>,
    batcher: Arc<Batcher>,
    /// Slots for credits and refunds, which continue after their caller has disconnected.
    places: Arc<Places>,
}

/// The API key with which a request is made, and the account of the key.
#[derive(Clone, Debug)]
pub struct Buyer {
    pub tenant: Arc<Tenant>,
    pub account: ExternalId,
    pub key_id: KeyId,
    pub request_id: RequestId,
}

/// The decision on a request, made now or for an earlier request with the same idempotency key.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision<T> {
    Made {
        made: T,
        replayed: bool,
    },
    /// The balance or the key's spend limit was insufficient. Nothing was taken or reserved.
    Declined(Decline),
}

impl Money {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        let batcher = Arc::new(Batcher::new(Arc::clone(&store)));
        let places = Arc::new(store.places());
        Self { store, batcher, places }
    }

    /// Takes the amount of a purchase from the balance, or declines the purchase. Returns after the
    /// decision is committed.
    pub async fn purchase(
        &self,
        buyer: &Buyer,
        purchase: NewPurchase,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<Decision<Purchase>, StoreError> {
        let id = PurchaseId::new(clock::local(), entropy::for_id()?);
        let wanted = purchase.clone();
        let action = OperationAction::Purchase { id, purchase, idempotency_key };
        let done = match self.apply(buyer, action).await? {
            Ok(done) => done,
            Err(decline) => return Ok(Decision::Declined(decline)),
        };
        let made = match done {
            Done { now: Some(DoneNow { at, balance_after: Some(balance_after) }), .. } => {
                bought(buyer, id, wanted, balance_after, at)
            }
            Done { made_before, .. } => {
                let id = PurchaseId::from_uuid(made_before.unwrap_or(id.uuid()));
                let found = self.store.find_purchase(&buyer.tenant, &buyer.account, id).await?;
                // A replay shows the purchase in its original state.
                Purchase { refunded: 0, ..found }
            }
        };
        Ok(Decision::Made { made, replayed: done.replayed })
    }

    /// Reserves a part of the balance, or declines the hold. Returns after the decision is
    /// committed.
    pub async fn hold(
        &self,
        buyer: &Buyer,
        hold: NewHold,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Result<Decision<Hold>, StoreError> {
        let id = HoldId::new(clock::local(), entropy::for_id()?);
        let wanted = hold.clone();
        let action = OperationAction::Hold { id, hold, idempotency_key };
        let done = match self.apply(buyer, action).await? {
            Ok(done) => done,
            Err(decline) => return Ok(Decision::Declined(decline)),
        };
        let made = match done.now {
            Some(DoneNow { at, .. }) => held(buyer, id, &wanted, at)?,
            None => {
                let id = done.made_before.map_or(id, HoldId::from_uuid);
                let found = self.store.find_hold(&buyer.tenant, &buyer.account, id).await?;
                found.as_made()
            }
        };
        Ok(Decision::Made { made, replayed: done.replayed })
    }

    /// Captures a hold in full or in part, and releases the rest.
    pub async fn capture(
        &self,
        buyer: &Buyer,
        hold_id: HoldId,
        amount: Option<Amount>,
    ) -> Result<Decision<Hold>, StoreError> {
        let id = PurchaseId::new(clock::local(), entropy::for_id()?);
        let action = OperationAction::Capture { id, hold_id, amount };
        self.close_hold(buyer, hold_id, action).await
    }

    /// Releases a hold.
    pub async fn void(&self, buyer: &Buyer, hold_id: HoldId) -> Result<Decision<Hold>, StoreError> {
        self.close_hold(buyer, hold_id, OperationAction::Void { hold_id }).await
    }

    /// Credits an account. Returns after the credit is committed.
    pub async fn credit(
        &self,
        tenant: &Arc<Tenant>,
        account: ExternalId,
        credit: NewCredit,
        idempotency_key: IdempotencyKey,
        origin: Origin,
    ) -> Result<Credited, StoreError> {
        let (store, tenant) = (Arc::clone(&self.store), Arc::clone(tenant));
        self.detached(
            tenant.id,
            again(async move || {
                store.account(&tenant, &account, &origin).credit(&credit, &idempotency_key).await
            }),
        )
        .await
    }

    /// Refunds a purchase in full or in part. Returns after the refund is committed.
    pub async fn refund(
        &self,
        tenant: &Arc<Tenant>,
        account: ExternalId,
        purchase_id: PurchaseId,
        refund: NewRefund,
        idempotency_key: IdempotencyKey,
        origin: Origin,
    ) -> Result<Refunded, StoreError> {
        let (store, tenant) = (Arc::clone(&self.store), Arc::clone(tenant));
        self.detached(
            tenant.id,
            again(async move || {
                let key = &idempotency_key;
                store.account(&tenant, &account, &origin).refund(purchase_id, &refund, key).await
            }),
        )
        .await
    }

    /// Releases expired holds once a second, until `stop` is ready.
    pub async fn release_holds(self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut failing = false;
        loop {
            tokio::select! {
                () = sleep(RELEASE_AFTER) => {}
                () = &mut stop => return,
            }
            match self.store.release_due_holds(RELEASED_AT_ONCE).await {
                Ok(_) => failing = false,
                Err(_) if failing => {}
                Err(error) => {
                    failing = true;
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "releasing expired holds failed");
                }
            }
        }
    }

    async fn close_hold(
        &self,
        buyer: &Buyer,
        hold_id: HoldId,
        action: OperationAction,
    ) -> Result<Decision<Hold>, StoreError> {
        match self.apply(buyer, action).await? {
            Ok(Done { replayed, .. }) => {
                let made = self.store.find_hold(&buyer.tenant, &buyer.account, hold_id).await?;
                Ok(Decision::Made { made, replayed })
            }
            Err(decline) => Ok(Decision::Declined(decline)),
        }
    }

    /// Waits for a slot, then runs the operation to completion even if the caller disconnects.
    async fn detached<T: Send + 'static>(
        &self,
        tenant: TenantId,
        operation: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.take(tenant).await;
        let bounded = of_request(Some(tenant), async move {
            let timed_out =
                |_| Err(StoreError::Unavailable("the database did not answer in time".into()));
            let result = tokio::time::timeout(OPERATION_TIMEOUT, operation).await;
            drop(place);
            result.unwrap_or_else(timed_out)
        });
        // An error means that the operation panicked or that the runtime stopped.
        tokio::spawn(bounded).await.unwrap_or_else(|error| Err(StoreError::Internal(error.into())))
    }

    async fn apply(
        &self,
        buyer: &Buyer,
        action: OperationAction,
    ) -> Result<Result<Done, Decline>, StoreError> {
        let operation = Operation {
            account_id: AccountId::derive(buyer.tenant.id, &buyer.account),
            key_id: buyer.key_id,
            request_id: buyer.request_id,
            action,
        };
        match self.batcher.apply(&buyer.tenant, operation).await? {
            BatchOutcome::Done(done) => Ok(Ok(done)),
            BatchOutcome::Declined(decline) => Ok(Err(decline)),
            BatchOutcome::Refused(refusal) => Err(refusal.into()),
            outcome @ (BatchOutcome::Busy | BatchOutcome::Fenced) => {
                Err(StoreError::Internal(format!("unexpected outcome {outcome:?}").into()))
            }
        }
    }
}

/// Builds the purchase that this request has just made.
fn bought(
    buyer: &Buyer,
    id: PurchaseId,
    wanted: NewPurchase,
    balance_after: i64,
    at: Timestamp,
) -> Purchase {
    Purchase {
        id,
        key_id: buyer.key_id,
        amount: wanted.amount.minor_units(),
        balance_after,
        refunded: 0,
        reference: wanted.reference,
        description: wanted.description,
        metadata: wanted.metadata,
        hold_id: None,
        created_at: at,
    }
}

/// Builds the hold that this request has just placed.
fn held(buyer: &Buyer, id: HoldId, wanted: &NewHold, at: Timestamp) -> Result<Hold, StoreError> {
    let expires_at = at.plus_seconds(i64::from(wanted.expires_in.get()));
    Ok(Hold {
        id,
        key_id: buyer.key_id,
        amount: wanted.amount.minor_units(),
        reference: wanted.reference.clone(),
        status: HoldStatus::Open,
        created_at: at,
        expires_at: expires_at
            .ok_or_else(|| StoreError::Internal("the hold expires after year 9999".into()))?,
        closed_at: None,
        void_reason: None,
        captured: None,
        purchase_id: None,
    })
}

/// Retries an operation while its outcome is unknown. Because of its idempotency key, the operation
/// takes effect only once.
async fn again<T>(operation: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut pause = RETRY_AFTER;
    for _ in 0..RETRIES {
        match tokio::time::timeout(ATTEMPT_TIMEOUT, operation()).await {
            Ok(Err(StoreError::Unavailable(_))) | Err(_) => {
                sleep(pause).await;
                pause *= 2;
            }
            Ok(result) => return result,
        }
    }
    operation().await
}
