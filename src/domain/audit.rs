//! Who did what: the words of the audit trail.

use std::{fmt, net::IpAddr};

use uuid::Uuid;

use super::{
    id::{AdminKeyId, CreditId, KeyId, RefundId, RequestId},
    text_enum::text_enum,
};

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Actor {
    /// The tenant's backend.
    AdminKey(AdminKeyId),
    /// Somebody at the command line.
    Cli,
    /// The account's owner.
    AccountOwner,
}

impl Actor {
    #[must_use]
    pub fn kind(self) -> ActorKind {
        match self {
            Self::AdminKey(_) => ActorKind::AdminKey,
            Self::Cli => ActorKind::Cli,
            Self::AccountOwner => ActorKind::AccountOwner,
        }
    }

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
        AdminKey = "admin_key",
        Cli = "cli",
        AccountOwner = "account_owner",
    }
}

/// Where an act comes from: it goes with every call that changes something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub actor: Actor,
    /// The address of the peer; `None` at the command line.
    pub address: Option<IpAddr>,
    pub request_id: Option<RequestId>,
}

impl Origin {
    #[must_use]
    pub fn cli() -> Self {
        Self { actor: Actor::Cli, address: None, request_id: None }
    }
}

text_enum! {
    /// What was done.
    pub enum AuditAction {
        TenantCreate = "tenant.create",
        AdminKeyCreate = "admin_key.create",
        AdminKeyRevoke = "admin_key.revoke",
        AccountCreate = "account.create",
        AccountSuspend = "account.suspend",
        AccountActivate = "account.activate",
        AccountCredit = "account.credit",
        PurchaseRefund = "purchase.refund",
        ApiKeyCreate = "api_key.create",
        ApiKeyChange = "api_key.change",
        ApiKeyRevoke = "api_key.revoke",
        ApiKeyRotate = "api_key.rotate",
        DashboardChange = "dashboard.change",
        DashboardLinkCreate = "dashboard_link.create",
        SessionOpen = "session.open",
        SessionClose = "session.close",
        SessionCloseAll = "session.close_all",
    }
}

/// What an act was about, other than the account or the tenant itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuditTarget {
    ApiKey(KeyId),
    AdminKey(AdminKeyId),
    Credit(CreditId),
    Refund(RefundId),
}

impl AuditTarget {
    /// The target of a stored event. `None` if the action concerns the account or the tenant itself.
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
            AuditAction::TenantCreate
            | AuditAction::AccountCreate
            | AuditAction::AccountSuspend
            | AuditAction::AccountActivate
            | AuditAction::DashboardChange
            | AuditAction::DashboardLinkCreate
            | AuditAction::SessionOpen
            | AuditAction::SessionClose
            | AuditAction::SessionCloseAll => None,
        }
    }

    #[must_use]
    pub fn uuid(self) -> Uuid {
        match self {
            Self::ApiKey(id) => id.uuid(),
            Self::AdminKey(id) => id.uuid(),
            Self::Credit(id) => id.uuid(),
            Self::Refund(id) => id.uuid(),
        }
    }

    /// The id of the API key, if it is one.
    #[must_use]
    pub fn api_key(self) -> Option<KeyId> {
        match self {
            Self::ApiKey(id) => Some(id),
            Self::AdminKey(_) | Self::Credit(_) | Self::Refund(_) => None,
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
        }
    }
}

impl serde::Serialize for AuditTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    AuditTarget,
    "AuditTargetId",
    super::id::schema(
        &[KeyId::PREFIX, AdminKeyId::PREFIX, CreditId::PREFIX, RefundId::PREFIX],
        "an API key, an admin key, a credit or a refund",
    )
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_back_by_its_action() {
        let id = Uuid::from_u128(7);
        for (action, target) in [
            (AuditAction::ApiKeyRevoke, AuditTarget::ApiKey(KeyId::from_uuid(id))),
            (AuditAction::AdminKeyCreate, AuditTarget::AdminKey(AdminKeyId::from_uuid(id))),
            (AuditAction::AccountCredit, AuditTarget::Credit(CreditId::from_uuid(id))),
            (AuditAction::PurchaseRefund, AuditTarget::Refund(RefundId::from_uuid(id))),
        ] {
            assert_eq!(AuditTarget::from_stored(action, id), Some(target));
            assert_eq!(target.uuid(), id);
        }
        assert_eq!(AuditTarget::from_stored(AuditAction::SessionOpen, id), None);
        let shown = AuditTarget::Refund(RefundId::from_uuid(id)).to_string();
        assert_eq!(shown, "rfd_00000000000000000000000007");
    }
}
