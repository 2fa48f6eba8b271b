use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    domain::{
        account::AccountId,
        id::RequestId,
        idempotency::{Fingerprint, IdempotencyKey, IdempotentOperation},
        timestamp::Timestamp,
    },
    store::{Refusal, StoreError, connection::Connection},
};

/// The decision for an idempotency key, recorded in the transaction of its effect.
pub(in crate::store) struct Decided {
    pub fingerprint: Fingerprint,
    /// The id of the credit or refund.
    pub cause_id: Uuid,
    pub request_id: Option<RequestId>,
}

impl Decided {
    pub async fn record(
        &self,
        connection: &mut Connection,
        account_id: AccountId,
        operation: IdempotentOperation,
        key: &IdempotencyKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "INSERT /* idempotency.record */
                    INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
                                              cause_id, request_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            account_id.uuid(),
            operation.as_str(),
            key.as_str(),
            self.fingerprint.as_bytes(),
            self.cause_id,
            self.request_id.map(RequestId::uuid),
            OffsetDateTime::from(at),
        )
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Returns the id of the effect, or a refusal if the record has another fingerprint.
    pub fn replay(&self, fingerprint: Fingerprint) -> Result<Uuid, StoreError> {
        if self.fingerprint == fingerprint {
            Ok(self.cause_id)
        } else {
            Err(Refusal::IdempotencyMismatch.into())
        }
    }
}

/// Finds the record of an idempotency key. Call this after the account is locked. The locking
/// statement itself would see the state from before its wait, and would miss decisions that were
/// committed during the wait.
pub(in crate::store) async fn find_record(
    connection: &mut Connection,
    account_id: AccountId,
    operation: IdempotentOperation,
    key: &IdempotencyKey,
) -> Result<Option<Decided>, StoreError> {
    let row = sqlx::query!(
        "SELECT /* idempotency.find_record */ fingerprint, cause_id, request_id
         FROM idempotency_records
         WHERE account_id = $1 AND operation = $2 AND idempotency_key = $3",
        account_id.uuid(),
        operation.as_str(),
        key.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let fingerprint = Fingerprint::from_stored(&row.fingerprint)
        .ok_or_else(|| StoreError::corrupt("idempotency_records.fingerprint", "not 32 bytes"))?;
    let cause_id = row
        .cause_id
        .ok_or_else(|| StoreError::corrupt("idempotency_records", "a declined credit or refund"))?;
    let request_id = row.request_id.map(RequestId::from_uuid);
    Ok(Some(Decided { fingerprint, cause_id, request_id }))
}
