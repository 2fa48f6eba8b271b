use std::fmt;

use axum::http::StatusCode;

/// Generates the enum and its tables from one row for each code, so that a code cannot get the
/// status or the title of another code.
macro_rules! problem_codes {
    ($($(#[doc = $doc:literal])+ $variant:ident: $status:ident, $code:literal, $title:literal;)+) => {
        /// The machine-readable kind of a [`Problem`](super::Problem): its `code`.
        ///
        /// A code determines the status and the title. Its meaning never changes. Later versions
        /// may add codes.
        ///
        /// ```
        /// use axum::http::StatusCode;
        /// use tollgate::auth::ProblemCode;
        ///
        /// let code = ProblemCode::InsufficientBalance;
        /// assert_eq!(code.as_str(), "insufficient_balance");
        /// assert_eq!(code.status(), StatusCode::PAYMENT_REQUIRED);
        /// assert_eq!(code.title(), "Insufficient balance");
        /// ```
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ProblemCode {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl ProblemCode {
            /// Every code, ordered by status.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the code as the body of a problem contains it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// Returns the status of a response with this code.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// Returns the title of a problem with this code, for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }

            /// Returns the meaning of the code, as a sentence for people.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                let lines = match self {
                    $(Self::$variant => concat!($($doc),+),)+
                };
                lines.trim_start()
            }
        }
    };
}

problem_codes! {
    /// The body is not one JSON object without duplicate members.
    MalformedBody: BAD_REQUEST, "malformed_body", "Malformed body";
    /// The request contains no API key, or different API keys.
    MissingApiKey: UNAUTHORIZED, "missing_api_key", "Missing API key";
    /// The API key is malformed, unknown, revoked, expired or disabled, or it may not be used from the
    /// address of the client.
    InvalidApiKey: UNAUTHORIZED, "invalid_api_key", "Invalid API key";
    /// The request contains no admin key, or different admin keys.
    MissingAdminKey: UNAUTHORIZED, "missing_admin_key", "Missing admin key";
    /// The admin key is malformed, unknown or revoked.
    InvalidAdminKey: UNAUTHORIZED, "invalid_admin_key", "Invalid admin key";
    /// The available balance is smaller than the amount.
    InsufficientBalance: PAYMENT_REQUIRED, "insufficient_balance", "Insufficient balance";
    /// The rest of the key's spend limit is smaller than the amount.
    SpendLimitExceeded: PAYMENT_REQUIRED, "spend_limit_exceeded", "Spend limit exceeded";
    /// The key is live, but its tenant is suspended.
    TenantSuspended: FORBIDDEN, "tenant_suspended", "Tenant suspended";
    /// The API key is live, but its account is suspended.
    AccountSuspended: FORBIDDEN, "account_suspended", "Account suspended";
    /// None of the API key's scopes implies the required one.
    InsufficientScope: FORBIDDEN, "insufficient_scope", "Insufficient scope";
    /// The admin key lacks the required permission.
    InsufficientPermission: FORBIDDEN, "insufficient_permission", "Insufficient permission";
    /// No such resource, or it belongs to another tenant or account.
    NotFound: NOT_FOUND, "not_found", "Not found";
    /// The path does not support the method.
    MethodNotAllowed: METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed";
    /// The body did not arrive in time.
    RequestTimeout: REQUEST_TIMEOUT, "request_timeout", "Request timeout";
    /// The account already has the maximum number of live keys, or of rotated keys in their grace
    /// period.
    KeyLimitReached: CONFLICT, "key_limit_reached", "Key limit reached";
    /// An account has the plan, or the plan is `default`, so it cannot be deleted.
    PlanInUse: CONFLICT, "plan_in_use", "Plan in use";
    /// The tenant already has the maximum number of plans.
    PlanLimitReached: CONFLICT, "plan_limit_reached", "Plan limit reached";
    /// The key is revoked or expired, so it cannot be changed or rotated.
    KeyNotLive: CONFLICT, "key_not_live", "Key not live";
    /// The key has already been rotated. A key can be rotated only once, and then its expiry cannot
    /// be postponed.
    KeyAlreadyRotated: CONFLICT, "key_already_rotated", "Key already rotated";
    /// The key or its account already has the maximum number of open holds.
    HoldLimitReached: CONFLICT, "hold_limit_reached", "Hold limit reached";
    /// The hold is not open, so it cannot be captured or voided.
    HoldNotOpen: CONFLICT, "hold_not_open", "Hold not open";
    /// The amount to capture is larger than the hold.
    HoldTooSmall: CONFLICT, "hold_too_small", "Hold too small";
    /// The amount is larger than the part of the purchase that has not been refunded yet.
    RefundTooLarge: CONFLICT, "refund_too_large", "Refund too large";
    /// The body is larger than the path accepts.
    BodyTooLarge: PAYLOAD_TOO_LARGE, "body_too_large", "Body too large";
    /// The body is not `application/json`.
    UnsupportedMediaType: UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type",
        "Unsupported media type";
    /// A member, a parameter or a header is invalid.
    ValidationFailed: UNPROCESSABLE_ENTITY, "validation_failed", "Validation failed";
    /// The `Idempotency-Key` was used for a different request.
    IdempotencyMismatch: UNPROCESSABLE_ENTITY, "idempotency_mismatch", "Idempotency mismatch";
    /// The request is over a rate limit of the API key, of its account or of its tenant.
    RateLimited: TOO_MANY_REQUESTS, "rate_limited", "Rate limit exceeded";
    /// The API key or the dashboard session already has the maximum number of requests in flight.
    TooManyInFlight: TOO_MANY_REQUESTS, "too_many_in_flight", "Too many requests in flight";
    /// The service failed. The log contains the cause.
    InternalError: INTERNAL_SERVER_ERROR, "internal_error", "Internal error";
    /// The service cannot answer now, for example because it cannot reach its database.
    Unavailable: SERVICE_UNAVAILABLE, "unavailable", "Unavailable";
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_and_titles_are_unique() {
        let codes: HashSet<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        let titles: HashSet<_> = ProblemCode::ALL.iter().map(|code| code.title()).collect();
        assert_eq!((codes.len(), titles.len()), (ProblemCode::ALL.len(), ProblemCode::ALL.len()));
    }

    #[test]
    fn meaning_is_one_line_with_single_spaces() {
        assert_eq!(
            ProblemCode::KeyLimitReached.meaning(),
            "The account already has the maximum number of live keys, or of rotated keys in their \
             grace period."
        );
        for code in ProblemCode::ALL {
            let meaning = code.meaning();
            assert!(meaning.ends_with('.') && !meaning.contains("  "), "{code}: {meaning}");
        }
    }

    #[test]
    fn codes_have_error_statuses_and_are_ordered_by_status() {
        let statuses = ProblemCode::ALL.iter().map(|code| code.status());
        assert!(
            statuses.clone().all(|status| { status.is_client_error() || status.is_server_error() })
        );
        assert!(statuses.is_sorted());
    }
}
