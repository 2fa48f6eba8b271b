use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Refusal, StoreError};
use crate::domain::{
    account::AccountId,
    id::{CreditId, PurchaseId, RequestId},
    idempotency::{Fingerprint, IdempotencyKey},
    timestamp::Timestamp,
};

/// What a decision led to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    Purchase(PurchaseId),
    Credit(CreditId),
    Declined { required: i64, available: i64 },
}

/// A decision, to be remembered for its idempotency key in the transaction of its effect.
pub(super) struct Decided {
    pub fingerprint: Fingerprint,
    pub cause: Cause,
    pub request_id: Option<RequestId>,
}

impl Decided {
    pub async fn record(
        &self,
        connection: &mut PgConnection,
        account_id: AccountId,
        key: &IdempotencyKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (outcome, cause_id, declined) = match self.cause {
            Cause::Purchase(id) => ("purchased", Some(id.uuid()), None),
            Cause::Credit(id) => ("credited", Some(id.uuid()), None),
            Cause::Declined { required, available } => {
                ("declined", None, Some((required, available)))
            }
        };
        let (required, available) = declined.unzip();
        sqlx::query!(
            "INSERT INTO idempotency_records (account_id, idempotency_key, fingerprint, outcome,
                                              cause_id, required, available, request_id,
                                              created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            account_id.uuid(),
            key.as_str(),
            self.fingerprint.as_bytes(),
            outcome,
            cause_id,
            required,
            available,
            self.request_id.map(RequestId::uuid),
            OffsetDateTime::from(at),
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// What was decided, if it was decided for the same request.
    pub fn replay(&self, fingerprint: Fingerprint) -> Result<Cause, StoreError> {
        if self.fingerprint == fingerprint {
            Ok(self.cause)
        } else {
            Err(Refusal::IdempotencyMismatch.into())
        }
    }
}

/// Called under the account's lock, in a statement of its own: in the locking one it would see
/// the state from before the wait, and miss what was decided meanwhile.
pub(super) async fn find_record(
    connection: &mut PgConnection,
    account_id: AccountId,
    key: &IdempotencyKey,
) -> Result<Option<Decided>, StoreError> {
    let row = sqlx::query!(
        "SELECT fingerprint, outcome, cause_id, required, available, request_id
         FROM idempotency_records WHERE account_id = $1 AND idempotency_key = $2",
        account_id.uuid(),
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let fingerprint = Fingerprint::from_stored(&row.fingerprint)
        .ok_or_else(|| StoreError::corrupt("idempotency_records.fingerprint", "not 32 bytes"))?;
    let cause = match (row.outcome.as_str(), row.cause_id, row.required, row.available) {
        ("purchased", Some(id), ..) => Cause::Purchase(PurchaseId::from_uuid(id)),
        ("credited", Some(id), ..) => Cause::Credit(CreditId::from_uuid(id)),
        ("declined", _, Some(required), Some(available)) => Cause::Declined { required, available },
        (other, ..) => return Err(StoreError::corrupt("idempotency_records.outcome", other)),
    };
    let request_id = row.request_id.map(RequestId::from_uuid);
    Ok(Some(Decided { fingerprint, cause, request_id }))
}
