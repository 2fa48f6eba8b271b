//! The types of the audit trail, which records who did what.

use std::{fmt, net::IpAddr};

use uuid::Uuid;

use super::{
    id::{AdminKeyId, CreditId, HoldId, KeyId, RefundId, RequestId},
    text_enum::text_enum,
};

/// The party that performs an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// The tenant's backend, with this admin key.
    AdminKey(AdminKeyId),
    /// An operator at the command line.
    Cli,
    /// The owner of the account, in the dashboard.
    AccountOwner,
}

impl Actor {
    /// Returns the kind of the actor, which the audit trail stores and shows.
    #[must_use]
    pub fn kind(self) -> ActorKind {
        match self {
            Self::AdminKey(_) => ActorKind::AdminKey,
            Self::Cli => ActorKind::Cli,
            Self::AccountOwner => ActorKind::AccountOwner,
        }
    }

    /// Returns the admin key, if the actor is the tenant's backend.
    #[must_use]
    pub fn admin_key(self) -> Option<AdminKeyId> {
        match self {
            Self::AdminKey(id) => Some(id),
            Self::Cli | Self::AccountOwner => None,
        }
    }
}

text_enum! {
    /// Who acted: the tenant's backend, an operator at the command line, or the account's owner in
    /// the dashboard.
    pub enum ActorKind {
        /// The tenant's backend, with an admin key.
        AdminKey = "admin_key",
        /// An operator at the command line.
        Cli = "cli",
        /// The account's owner in the dashboard.
        AccountOwner = "account_owner",
    }
}

/// The origin of a change, for the audit trail. Every call that changes something takes an `Origin`
/// as an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The party that makes the change.
    pub actor: Actor,
    /// The client's address. `None` at the command line.
    pub address: Option<IpAddr>,
    /// The HTTP request that makes the change. `None` at the command line.
    pub request_id: Option<RequestId>,
}

impl Origin {
    /// Returns the origin of a change at the command line, without an address or a request.
    #[must_use]
    pub fn cli() -> Self {
        Self { actor: Actor::Cli, address: None, request_id: None }
    }
}

text_enum! {
    /// The action that an audit event records.
    pub enum AuditAction {
        /// An operator created a tenant, which is a platform in one environment.
        TenantCreate = "tenant.create",
        /// A tenant was suspended. All its API keys and admin keys are refused from then on.
        TenantSuspend = "tenant.suspend",
        /// A suspended tenant was resumed. Its keys are accepted again.
        TenantResume = "tenant.resume",
        /// A new plan was created for a tenant.
        PlanCreate = "plan.create",
        /// The settings of a plan changed.
        PlanChange = "plan.change",
        /// A plan was deleted.
        PlanDelete = "plan.delete",
        /// The rate limits of a tenant changed.
        TenantLimitsChange = "tenant.limits_change",
        /// A new admin key was created for a tenant's backend.
        AdminKeyCreate = "admin_key.create",
        /// An admin key was revoked.
        AdminKeyRevoke = "admin_key.revoke",
        /// An account was added to a tenant.
        AccountCreate = "account.create",
        /// An account was suspended. All its keys are refused from then on.
        AccountSuspend = "account.suspend",
        /// A suspended account was activated. Its keys are accepted again.
        AccountActivate = "account.activate",
        /// The settings of an account changed.
        AccountChange = "account.change",
        /// The balance of an account was topped up.
        AccountCredit = "account.credit",
        /// A purchase was refunded to the balance, in full or in part.
        PurchaseRefund = "purchase.refund",
        /// The backend or the account's owner voided a hold.
        HoldVoid = "hold.void",
        /// A new API key was created for an account.
        ApiKeyCreate = "api_key.create",
        /// The settings of an API key changed.
        ApiKeyChange = "api_key.change",
        /// An API key was revoked.
        ApiKeyRevoke = "api_key.revoke",
        /// An API key was replaced by a new one with the same settings.
        ApiKeyRotate = "api_key.rotate",
        /// The tenant's dashboard settings changed.
        DashboardChange = "dashboard.change",
        /// A link that signs an account's owner in to the dashboard was created.
        DashboardLinkCreate = "dashboard_link.create",
        /// An account's owner signed in to the dashboard.
        SessionOpen = "session.open",
        /// An account's owner signed out of one dashboard session.
        SessionClose = "session.close",
        /// All dashboard sessions of an account were ended, and its unused links were revoked.
        SessionCloseAll = "session.close_all",
    }
}

/// The object of an action, unless it is the account or the tenant itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditTarget {
    /// The API key that was created, changed, revoked or rotated.
    ApiKey(KeyId),
    /// The admin key that was created or revoked.
    AdminKey(AdminKeyId),
    /// The credit that topped up a balance.
    Credit(CreditId),
    /// The refund, not the purchase that it refunds.
    Refund(RefundId),
    /// The hold that was voided.
    Hold(HoldId),
}

impl AuditTarget {
    /// Restores the target of a stored event. Returns `None` if the action concerns the account or
    /// the tenant itself.
    #[must_use]
    pub fn from_stored(action: AuditAction, id: Uuid) -> Option<Self> {
        match action {
            AuditAction::ApiKeyCreate
            | AuditAction::ApiKeyChange
            | AuditAction::ApiKeyRevoke
            | AuditAction::ApiKeyRotate => Some(Self::ApiKey(KeyId::from_uuid(id))),
            AuditAction::AdminKeyCreate | AuditAction::AdminKeyRevoke => {
                Some(Self::AdminKey(AdminKeyId::from_uuid(id)))
            }
            AuditAction::AccountCredit => Some(Self::Credit(CreditId::from_uuid(id))),
            AuditAction::PurchaseRefund => Some(Self::Refund(RefundId::from_uuid(id))),
            AuditAction::HoldVoid => Some(Self::Hold(HoldId::from_uuid(id))),
            AuditAction::TenantCreate
            | AuditAction::TenantSuspend
            | AuditAction::TenantResume
            | AuditAction::PlanCreate
            | AuditAction::PlanChange
            | AuditAction::PlanDelete
            | AuditAction::TenantLimitsChange
            | AuditAction::AccountCreate
            | AuditAction::AccountSuspend
            | AuditAction::AccountActivate
            | AuditAction::AccountChange
            | AuditAction::DashboardChange
            | AuditAction::DashboardLinkCreate
            | AuditAction::SessionOpen
            | AuditAction::SessionClose
            | AuditAction::SessionCloseAll => None,
        }
    }

    /// Returns the UUID of the target, without its type. [`Self::from_stored`] restores the target
    /// from it.
    #[must_use]
    pub fn uuid(self) -> Uuid {
        match self {
            Self::ApiKey(id) => id.uuid(),
            Self::AdminKey(id) => id.uuid(),
            Self::Credit(id) => id.uuid(),
            Self::Refund(id) => id.uuid(),
            Self::Hold(id) => id.uuid(),
        }
    }

    /// Returns the id of the API key, if the target is an API key.
    #[must_use]
    pub fn api_key(self) -> Option<KeyId> {
        match self {
            Self::ApiKey(id) => Some(id),
            Self::AdminKey(_) | Self::Credit(_) | Self::Refund(_) | Self::Hold(_) => None,
        }
    }
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(id) => fmt::Display::fmt(id, f),
            Self::AdminKey(id) => fmt::Display::fmt(id, f),
            Self::Credit(id) => fmt::Display::fmt(id, f),
            Self::Refund(id) => fmt::Display::fmt(id, f),
            Self::Hold(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl serde::Serialize for AuditTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

super::schema::named!(
    AuditTarget,
    "AuditTargetId",
    super::id::schema(
        &[KeyId::PREFIX, AdminKeyId::PREFIX, CreditId::PREFIX, RefundId::PREFIX, HoldId::PREFIX],
        "an API key, an admin key, a credit, a refund or a hold",
    )
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_target_is_restored_from_its_action() {
        let id = Uuid::from_u128(7);
        for (action, target) in [
            (AuditAction::ApiKeyRevoke, AuditTarget::ApiKey(KeyId::from_uuid(id))),
            (AuditAction::AdminKeyCreate, AuditTarget::AdminKey(AdminKeyId::from_uuid(id))),
            (AuditAction::AccountCredit, AuditTarget::Credit(CreditId::from_uuid(id))),
            (AuditAction::PurchaseRefund, AuditTarget::Refund(RefundId::from_uuid(id))),
            (AuditAction::HoldVoid, AuditTarget::Hold(HoldId::from_uuid(id))),
        ] {
            assert_eq!(AuditTarget::from_stored(action, id), Some(target));
            assert_eq!(target.uuid(), id);
        }
        assert_eq!(AuditTarget::from_stored(AuditAction::SessionOpen, id), None);
        let shown = AuditTarget::Refund(RefundId::from_uuid(id)).to_string();
        assert_eq!(shown, "rfd_00000000000000000000000007");
    }
}
