//! Who did what: the words of the audit trail.

use std::net::IpAddr;

use super::id::{AdminKeyId, RequestId};

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
    pub fn kind(self) -> &'static str {
        match self {
            Self::AdminKey(_) => "admin_key",
            Self::Cli => "cli",
            Self::AccountOwner => "account_owner",
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

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    TenantCreate,
    AdminKeyCreate,
    AdminKeyRevoke,
    AccountCreate,
    AccountSuspend,
    AccountActivate,
    AccountCredit,
    PurchaseRefund,
    ApiKeyCreate,
    ApiKeyChange,
    ApiKeyRevoke,
    ApiKeyRotate,
    /// How the tenant's dashboard looks, and who may come in.
    DashboardChange,
    DashboardLinkCreate,
    SessionOpen,
    SessionClose,
    SessionCloseAll,
}

impl Action {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantCreate => "tenant.create",
            Self::AdminKeyCreate => "admin_key.create",
            Self::AdminKeyRevoke => "admin_key.revoke",
            Self::AccountCreate => "account.create",
            Self::AccountSuspend => "account.suspend",
            Self::AccountActivate => "account.activate",
            Self::AccountCredit => "account.credit",
            Self::PurchaseRefund => "purchase.refund",
            Self::ApiKeyCreate => "api_key.create",
            Self::ApiKeyChange => "api_key.change",
            Self::ApiKeyRevoke => "api_key.revoke",
            Self::ApiKeyRotate => "api_key.rotate",
            Self::DashboardChange => "dashboard.change",
            Self::DashboardLinkCreate => "dashboard_link.create",
            Self::SessionOpen => "session.open",
            Self::SessionClose => "session.close",
            Self::SessionCloseAll => "session.close_all",
        }
    }
}
