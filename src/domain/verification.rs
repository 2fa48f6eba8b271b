//! The verdict on the API key of a request.

use super::{
    account::AccountStatus, lifecycle::KeyStatus, tenant::TenantStatus, text_enum::text_enum,
    timestamp::Timestamp, usage::UsageOutcome,
};

text_enum! {
    /// The reason why a key is refused.
    ///
    /// Responses of the gate do not distinguish the reasons from `Malformed` to `Disabled`, and
    /// `IpNotAllowed`. Logs and metrics do.
    pub enum Denial [non_exhaustive] {
        /// The text is not a well-formed API key.
        Malformed = "malformed",
        /// The text is well formed, but no such key exists.
        NotFound = "not_found",
        /// The key is revoked.
        Revoked = "revoked",
        /// The key has expired.
        Expired = "expired",
        /// The key is live but disabled. It can be enabled again.
        Disabled = "disabled",
        /// The key is live and enabled, but its tenant is suspended.
        TenantSuspended = "tenant_suspended",
        /// The key is live and enabled, but its account is suspended.
        AccountSuspended = "account_suspended",
        /// The key is accepted, but not from the address of the request.
        IpNotAllowed = "ip_not_allowed",
        /// The key is accepted, but the request is over a rate limit.
        RateLimited = "rate_limited",
        /// The key could not be looked up, so there is no verdict.
        Unavailable = "unavailable",
    }
}

text_enum! {
    /// The result of a verification. It is `VALID`, or the first reason for refusing the key.
    pub enum VerificationCode [non_exhaustive] {
        /// The key is accepted. If the verification requested a charge, the charge was made.
        Valid = "VALID",
        /// The text is not an API key of the tenant.
        NotFound = "NOT_FOUND",
        /// The key is revoked.
        Revoked = "REVOKED",
        /// The key has expired.
        Expired = "EXPIRED",
        /// The key is live but disabled. It can be enabled again.
        Disabled = "DISABLED",
        /// The key is live and enabled, but its account is suspended.
        AccountSuspended = "ACCOUNT_SUSPENDED",
        /// The key and its account allow other addresses only, or the address is not known.
        IpNotAllowed = "IP_NOT_ALLOWED",
        /// The key lacks a scope that the verification requires.
        InsufficientScope = "INSUFFICIENT_SCOPE",
        /// The call is over a rate limit of the key, of its account or of the tenant.
        RateLimited = "RATE_LIMITED",
        /// The charge is larger than the available balance.
        InsufficientBalance = "INSUFFICIENT_BALANCE",
        /// The charge is larger than the rest of the key's spend limit.
        SpendLimitExceeded = "SPEND_LIMIT_EXCEEDED",
    }
}

/// No code exists for the denial: the key could not be looked up, or the tenant is suspended, whose
/// admin keys are refused too. In both cases the request to verify the key fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be looked up, or its tenant is suspended")]
pub struct NoCode;

impl TryFrom<Denial> for VerificationCode {
    type Error = NoCode;

    fn try_from(denial: Denial) -> Result<Self, NoCode> {
        match denial {
            Denial::Malformed | Denial::NotFound => Ok(Self::NotFound),
            Denial::Revoked => Ok(Self::Revoked),
            Denial::Expired => Ok(Self::Expired),
            Denial::Disabled => Ok(Self::Disabled),
            Denial::AccountSuspended => Ok(Self::AccountSuspended),
            Denial::IpNotAllowed => Ok(Self::IpNotAllowed),
            Denial::RateLimited => Ok(Self::RateLimited),
            Denial::TenantSuspended | Denial::Unavailable => Err(NoCode),
        }
    }
}

impl VerificationCode {
    /// Returns the gate's decision about the key. The gate accepts a key before its charge is
    /// decided, so the decision for a declined charge is [`GateDecision::Passed`].
    #[must_use]
    pub fn decision(self) -> GateDecision {
        match self {
            Self::Valid | Self::InsufficientBalance | Self::SpendLimitExceeded => {
                GateDecision::Passed
            }
            Self::NotFound => GateDecision::Denied(Denial::NotFound),
            Self::Revoked => GateDecision::Denied(Denial::Revoked),
            Self::Expired => GateDecision::Denied(Denial::Expired),
            Self::Disabled => GateDecision::Denied(Denial::Disabled),
            Self::AccountSuspended => GateDecision::Denied(Denial::AccountSuspended),
            Self::IpNotAllowed => GateDecision::Denied(Denial::IpNotAllowed),
            Self::InsufficientScope => GateDecision::InsufficientScope,
            Self::RateLimited => GateDecision::Denied(Denial::RateLimited),
        }
    }

    /// Returns the label `outcome` of the metrics.
    #[must_use]
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::InsufficientBalance => "insufficient_balance",
            Self::SpendLimitExceeded => "spend_limit_exceeded",
            Self::Valid
            | Self::NotFound
            | Self::Revoked
            | Self::Expired
            | Self::Disabled
            | Self::AccountSuspended
            | Self::IpNotAllowed
            | Self::InsufficientScope
            | Self::RateLimited => self.decision().reason().unwrap_or("valid"),
        }
    }
}

/// The gate's decision about a request. The log, the metrics and the usage counts derive from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum GateDecision {
    /// The request contains no key.
    Missing,
    /// The request contains different keys.
    Conflicting,
    /// The key is refused.
    Denied(Denial),
    /// The key belongs to another tenant, or to the tenant's other environment. The response is the
    /// same as the response to an unknown key, whether or not the key is live.
    WrongTenant,
    /// The key is valid, but none of its scopes implies the required one.
    InsufficientScope,
    /// The request was accepted.
    Passed,
}

impl GateDecision {
    /// Returns the reason for the log and the metrics. `None` if the request was accepted.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("missing"),
            Self::Conflicting => Some("conflicting"),
            Self::Denied(denial) => Some(denial.as_str()),
            Self::WrongTenant => Some("wrong_tenant"),
            Self::InsufficientScope => Some("insufficient_scope"),
            Self::Passed => None,
        }
    }

    /// Whether the gate refused the request before it asked a verifier.
    #[must_use]
    pub fn is_unverified(self) -> bool {
        match self {
            Self::Missing | Self::Conflicting | Self::Denied(Denial::Malformed) => true,
            Self::Denied(
                Denial::NotFound
                | Denial::Revoked
                | Denial::Expired
                | Denial::Disabled
                | Denial::TenantSuspended
                | Denial::AccountSuspended
                | Denial::IpNotAllowed
                | Denial::RateLimited
                | Denial::Unavailable,
            )
            | Self::WrongTenant
            | Self::InsufficientScope
            | Self::Passed => false,
        }
    }

    /// Returns the outcome to add to the key's usage counts. `None` if the key is unknown or
    /// belongs to another tenant.
    #[must_use]
    pub fn usage(self) -> Option<UsageOutcome> {
        match self {
            Self::Passed => Some(UsageOutcome::Valid),
            Self::InsufficientScope => Some(UsageOutcome::InsufficientScope),
            Self::Denied(Denial::Revoked) => Some(UsageOutcome::Revoked),
            Self::Denied(Denial::Expired) => Some(UsageOutcome::Expired),
            Self::Denied(Denial::Disabled) => Some(UsageOutcome::Disabled),
            Self::Denied(Denial::TenantSuspended) => Some(UsageOutcome::TenantSuspended),
            Self::Denied(Denial::AccountSuspended) => Some(UsageOutcome::AccountSuspended),
            Self::Denied(Denial::IpNotAllowed) => Some(UsageOutcome::IpNotAllowed),
            Self::Denied(Denial::RateLimited) => Some(UsageOutcome::RateLimited),
            Self::Denied(Denial::Malformed | Denial::NotFound | Denial::Unavailable)
            | Self::Missing
            | Self::Conflicting
            | Self::WrongTenant => None,
        }
    }
}

/// The properties of a key, its tenant and its account that decide whether the key is accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyState {
    /// The moment when the key was revoked. `None` if it is not revoked.
    pub revoked_at: Option<Timestamp>,
    /// The moment when the key expires. `None` means that it never expires.
    pub expires_at: Option<Timestamp>,
    /// Whether the key is enabled. A disabled key is refused, but it is live and can be enabled
    /// again.
    pub enabled: bool,
    /// The status of the tenant that the account belongs to.
    pub tenant: TenantStatus,
    /// The status of the account that owns the key.
    pub account: AccountStatus,
}

impl KeyState {
    /// Checks that the key is accepted at `now`, by the database's clock.
    ///
    /// This checks the key first, so that only the holder of a live key learns that the tenant or
    /// the account is suspended.
    ///
    /// # Errors
    ///
    /// The first of [`Denial::Revoked`], [`Denial::Expired`], [`Denial::Disabled`],
    /// [`Denial::TenantSuspended`] and [`Denial::AccountSuspended`] that applies.
    pub fn judge(&self, now: Timestamp) -> Result<(), Denial> {
        match KeyStatus::at(now, self.revoked_at, self.expires_at) {
            KeyStatus::Revoked => Err(Denial::Revoked),
            KeyStatus::Expired => Err(Denial::Expired),
            KeyStatus::Live if !self.enabled => Err(Denial::Disabled),
            KeyStatus::Live if self.tenant == TenantStatus::Suspended => {
                Err(Denial::TenantSuspended)
            }
            KeyStatus::Live if self.account == AccountStatus::Suspended => {
                Err(Denial::AccountSuspended)
            }
            KeyStatus::Live => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason_only_if_the_key_is_known() {
        for &denial in Denial::ALL {
            let decision = GateDecision::Denied(denial);
            assert_eq!(decision.reason(), Some(denial.as_str()));
            if let Some(outcome) = decision.usage() {
                assert_eq!(outcome.as_str(), denial.as_str());
            }
        }
        let counted = Denial::ALL.iter().filter_map(|&denial| GateDecision::Denied(denial).usage());
        assert_eq!(
            counted.count(),
            UsageOutcome::ALL.len() - 2,
            "every outcome except the outcomes of a live key"
        );
        assert_eq!(GateDecision::Passed.usage(), Some(UsageOutcome::Valid));
        assert_eq!(GateDecision::Passed.reason(), None);
        assert_eq!(GateDecision::Missing.usage(), None);
        assert_eq!(GateDecision::WrongTenant.usage(), None);
        assert_eq!(GateDecision::WrongTenant.reason(), Some("wrong_tenant"));
    }

    #[test]
    fn metric_labels_are_the_codes_in_lower_case() {
        for &code in VerificationCode::ALL {
            assert_eq!(code.metric_label(), code.as_str().to_lowercase());
        }
    }

    #[test]
    fn denials_map_to_codes_and_back_unless_the_request_fails() {
        for &denial in Denial::ALL {
            let code = VerificationCode::try_from(denial);
            match denial {
                Denial::TenantSuspended | Denial::Unavailable => assert_eq!(code, Err(NoCode)),
                Denial::Malformed => assert_eq!(code, Ok(VerificationCode::NotFound)),
                _ => {
                    let decision = code.map(VerificationCode::decision);
                    assert_eq!(decision, Ok(GateDecision::Denied(denial)));
                }
            }
        }
    }

    #[test]
    fn denial_reasons_have_a_fixed_precedence() {
        let at = |second: i64| Timestamp::from_unix_micros(second * 1_000_000).expect("in range");
        let mut state = KeyState {
            revoked_at: Some(at(5)),
            expires_at: Some(at(10)),
            enabled: false,
            tenant: TenantStatus::Suspended,
            account: AccountStatus::Suspended,
        };
        assert_eq!(state.judge(at(20)), Err(Denial::Revoked));
        state.revoked_at = None;
        assert_eq!(state.judge(at(10)), Err(Denial::Expired));
        assert_eq!(state.judge(at(9)), Err(Denial::Disabled));
        state.enabled = true;
        assert_eq!(state.judge(at(9)), Err(Denial::TenantSuspended));
        state.tenant = TenantStatus::Active;
        assert_eq!(state.judge(at(9)), Err(Denial::AccountSuspended));
        state.account = AccountStatus::Active;
        assert_eq!(state.judge(at(9)), Ok(()));
    }
}
