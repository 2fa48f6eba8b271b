//! The steps that credits and refunds share. A credit or refund takes effect once for each
//! idempotency key. One transaction writes its entry and its audit event.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    entries::append,
    idempotency::{Decided, find_record},
};
use crate::{
    domain::{
        audit::{AuditAction, AuditTarget},
        idempotency::{Fingerprint, IdempotencyKey, IdempotentOperation},
        ledger_entry::EntryCause,
        text::Reference,
        timestamp::Timestamp,
    },
    store::{
        AccountHandle, AcknowledgedEntry, LedgerEntry, Refusal, StoreError,
        accounts::account::LockedAccount, connection::Connection,
    },
};

/// A request that takes effect once.
#[derive(Clone, Copy)]
pub(super) struct Once<'a> {
    pub operation: IdempotentOperation,
    pub key: &'a IdempotencyKey,
    pub fingerprint: Fingerprint,
}

/// An increase of the balance, and its cause.
pub(super) struct Settlement<'a> {
    pub cause: EntryCause,
    /// The amount in minor units.
    pub amount: i64,
    pub reference: Option<&'a Reference>,
    pub at: Timestamp,
    pub action: AuditAction,
    pub target: AuditTarget,
    /// Members of the audit event in addition to amount, currency and reference.
    pub detail: Map<String, Value>,
}

impl AccountHandle<'_> {
    /// Finds the credit or refund that this idempotency key created earlier. Returns its id, and
    /// whether another request created it (a replay). Call this under the account's lock.
    pub(super) async fn made_before(
        &self,
        connection: &mut Connection,
        once: Once<'_>,
    ) -> Result<Option<(Uuid, bool)>, StoreError> {
        let record = find_record(connection, self.id, once.operation, once.key).await?;
        let Some(record) = record else { return Ok(None) };
        let request_id = self.origin.request_id;
        let replayed = record.request_id != request_id || request_id.is_none();
        Ok(Some((record.replay(once.fingerprint)?, replayed)))
    }

    /// Appends the entry, which changes the balance, and writes the idempotency record and the
    /// audit event. Returns the entry.
    pub(super) async fn settle(
        &self,
        connection: &mut Connection,
        locked: &LockedAccount,
        once: Once<'_>,
        settlement: Settlement<'_>,
    ) -> Result<LedgerEntry, StoreError> {
        let Settlement { cause, amount, reference, at, action, target, mut detail } = settlement;
        let entry = LedgerEntry {
            seq: locked.last_seq + 1,
            amount,
            balance_after: locked.balance.checked_add(amount).ok_or(Refusal::BalanceOverflow)?,
            cause,
            key_id: None,
            admin_key_id: self.origin.actor.admin_key(),
            reference: reference.cloned(),
            created_at: at,
        };
        append(connection, self.id, &entry).await?;
        let decided = Decided {
            fingerprint: once.fingerprint,
            cause_id: cause.uuid(),
            request_id: self.origin.request_id,
        };
        decided.record(connection, self.id, once.operation, once.key, at).await?;
        let currency = &self.tenant.policy.currency;
        detail.insert("amount".to_owned(), json!(currency.format(amount)));
        detail.insert("currency".to_owned(), json!(currency.code()));
        detail.insert("reference".to_owned(), json!(reference.map(Reference::as_str)));
        self.record(connection, action, Some(target), detail.into(), at).await?;
        Ok(entry)
    }

    /// Keeps an entry after its commit, for the check after a failover.
    pub(super) fn acknowledge_entry(&self, &LedgerEntry { seq, cause, .. }: &LedgerEntry) {
        let entry = AcknowledgedEntry { account_id: self.id, seq, cause };
        self.store.acknowledged.add_entries(std::iter::once(entry));
    }
}
