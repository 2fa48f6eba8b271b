use super::{StoreError, connection::Connection};
use crate::domain::{
    account::AccountId,
    hold::VoidReason,
    id::{HoldId, KeyId},
};

/// The holds that one call voided.
pub(super) struct VoidedHolds {
    pub ids: Vec<HoldId>,
    /// The sum of the amounts, in minor units.
    pub amount: i64,
}

/// Voids the open holds of a key. Their number is at most
/// [`MAX_OPEN_HOLDS_OF_KEY`](crate::domain::hold::MAX_OPEN_HOLDS_OF_KEY). Call this under the
/// account's lock.
pub(super) async fn void_holds_of_key(
    connection: &mut Connection,
    account_id: AccountId,
    key_id: KeyId,
    reason: VoidReason,
) -> Result<VoidedHolds, StoreError> {
    let voided = sqlx::query!(
        r#"SELECT /* holds.void_of_key */
                  hold_ids AS "hold_ids!", voided_amount AS "amount!"
           FROM ledger_void_holds($1, ARRAY(
               SELECT hold_id FROM holds
               WHERE account_id = $1 AND key_id = $2 AND status = 'open'), $3)"#,
        account_id.uuid(),
        key_id.uuid(),
        reason.as_str(),
    )
    .fetch_one(connection)
    .await?;
    let ids = voided.hold_ids.into_iter().map(HoldId::from_uuid).collect();
    Ok(VoidedHolds { ids, amount: voided.amount })
}
