use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Refusal, StoreError};
use crate::domain::{
    account::AccountId,
    id::RequestId,
    idempotency::{Fingerprint, IdempotencyKey},
    timestamp::Timestamp,
};

/// What an idempotency key is used for. Each has keys of its own: what an account's owner chooses
/// for a purchase cannot stand in the way of a credit that the tenant makes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Purchase,
    Credit,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Credit => "credit",
        }
    }
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    /// It was done: the id of the purchase or the credit.
    Done(Uuid),
    /// The balance did not reach. Amounts in minor units.
    Declined { required: i64, available: i64 },
}

/// A decision, to be remembered for its idempotency key in the transaction of its effect.
pub(super) struct Decided {
    pub fingerprint: Fingerprint,
    pub decision: Decision,
    pub request_id: Option<RequestId>,
}

impl Decided {
    pub async fn record(
        &self,
        connection: &mut PgConnection,
        account_id: AccountId,
        operation: Operation,
        key: &IdempotencyKey,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (cause_id, declined) = match self.decision {
            Decision::Done(id) => (Some(id), None),
            Decision::Declined { required, available } => (None, Some((required, available))),
        };
        let (required, available) = declined.unzip();
        sqlx::query!(
            "INSERT INTO idempotency_records (account_id, operation, idempotency_key, fingerprint,
                                              cause_id, required, available, request_id,
                                              created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            account_id.uuid(),
            operation.as_str(),
            key.as_str(),
            self.fingerprint.as_bytes(),
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
    pub fn replay(&self, fingerprint: Fingerprint) -> Result<Decision, StoreError> {
        if self.fingerprint == fingerprint {
            Ok(self.decision)
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
    operation: Operation,
    key: &IdempotencyKey,
) -> Result<Option<Decided>, StoreError> {
    let row = sqlx::query!(
        "SELECT fingerprint, cause_id, required, available, request_id
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
    let decision = match (row.cause_id, row.required, row.available) {
        (Some(id), None, None) => Decision::Done(id),
        (None, Some(required), Some(available)) => Decision::Declined { required, available },
        _ => return Err(StoreError::corrupt("idempotency_records", "neither done nor declined")),
    };
    let request_id = row.request_id.map(RequestId::from_uuid);
    Ok(Some(Decided { fingerprint, decision, request_id }))
}
