use serde_json::Value;

use crate::{
    domain::{
        account::{AccountId, ExternalId},
        audit::{AuditAction, AuditTarget, Origin},
        tenant::Tenant,
        timestamp::Timestamp,
    },
    store::{
        Store, StoreError,
        audit::{Act, Subject},
        connection::Connection,
    },
};

/// An account, its tenant, and the origin of a change. Every change to an account, its keys or its
/// balance is a method of this type.
#[derive(Clone, Copy)]
pub struct AccountHandle<'a> {
    pub(in crate::store) store: &'a Store,
    pub(in crate::store) tenant: &'a Tenant,
    pub(in crate::store) account: &'a ExternalId,
    pub(in crate::store) id: AccountId,
    pub(in crate::store) origin: &'a Origin,
}

impl Store {
    /// Creates a handle for changes of an account. The account need not exist.
    #[must_use]
    pub fn account<'a>(
        &'a self,
        tenant: &'a Tenant,
        account: &'a ExternalId,
        origin: &'a Origin,
    ) -> AccountHandle<'a> {
        let id = AccountId::derive(tenant.id, account);
        AccountHandle { store: self, tenant, account, id, origin }
    }
}

impl AccountHandle<'_> {
    /// Records a change to the account, or to one of its keys or credits, in the transaction of the
    /// change.
    pub(in crate::store) async fn record(
        &self,
        connection: &mut Connection,
        action: AuditAction,
        target: Option<AuditTarget>,
        detail: Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let act = Act { action, subject: Subject::Account(self.account, target), detail };
        act.record(connection, self.tenant, self.origin, at).await
    }
}
