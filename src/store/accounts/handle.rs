use serde_json::Value;
use sqlx::PgConnection;

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
    },
};

/// An account that is to be changed: whose it is, and who asks for the change, from where. What
/// changes an account, its keys or its balance is a method of this.
#[derive(Clone, Copy)]
pub struct AccountHandle<'a> {
    pub(in crate::store) store: &'a Store,
    pub(in crate::store) tenant: &'a Tenant,
    pub(in crate::store) account: &'a ExternalId,
    pub(in crate::store) id: AccountId,
    pub(in crate::store) origin: &'a Origin,
}

impl Store {
    /// A handle for changes of an account, which need not be there.
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
    /// Records what was done to the account, or to something of it, in its own transaction.
    pub(in crate::store) async fn record(
        &self,
        connection: &mut PgConnection,
        action: AuditAction,
        target: Option<AuditTarget>,
        detail: Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let act = Act { action, subject: Subject::Account(self.account, target), detail };
        act.record(connection, self.tenant, self.origin, at).await
    }
}
