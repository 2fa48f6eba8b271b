use std::fmt;

use axum::http::StatusCode;

/// Makes the enum and its tables from one row for each code, so that a code cannot be paired with
/// the status or the title of another.
macro_rules! problem_codes {
    ($($(#[$doc:meta])+ $variant:ident: $status:ident, $code:literal, $title:literal;)+) => {
        /// What is wrong, for programs: the `code` of a [`Problem`](super::Problem).
        ///
        /// A code implies the status and the title. Its meaning never changes; later versions may
        /// add codes.
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
            $($(#[$doc])+ $variant,)+
        }

        impl ProblemCode {
            /// Every code, in the order of their statuses.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The code as the body of a problem has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// The status of a response with this code.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            /// The kind of problem, for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)+
                }
            }
        }
    };
}

problem_codes! {
    /// The body is not one JSON object without duplicate members.
    MalformedBody: BAD_REQUEST, "malformed_body", "Malformed body";
    /// The request has no API key, or several that differ.
    MissingApiKey: UNAUTHORIZED, "missing_api_key", "Missing API key";
    /// The API key is malformed, unknown, revoked, expired or disabled.
    InvalidApiKey: UNAUTHORIZED, "invalid_api_key", "Invalid API key";
    /// The request has no admin key, or several that differ.
    MissingAdminKey: UNAUTHORIZED, "missing_admin_key", "Missing admin key";
    /// The admin key is malformed, unknown or revoked.
    InvalidAdminKey: UNAUTHORIZED, "invalid_admin_key", "Invalid admin key";
    /// The available balance is smaller than the amount.
    InsufficientBalance: PAYMENT_REQUIRED, "insufficient_balance", "Insufficient balance";
    /// The rest of the key's spend limit is smaller than the amount.
    SpendLimitExceeded: PAYMENT_REQUIRED, "spend_limit_exceeded", "Spend limit exceeded";
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
    /// The account has as many live keys, or as many rotated keys in their grace period, as it may
    /// have.
    KeyLimitReached: CONFLICT, "key_limit_reached", "Key limit reached";
    /// A revoked or expired key cannot be changed or rotated.
    KeyNotLive: CONFLICT, "key_not_live", "Key not live";
    /// A key is rotated once; after that its expiry cannot be postponed.
    KeyAlreadyRotated: CONFLICT, "key_already_rotated", "Key already rotated";
    /// The key or its account has as many open holds as it may have.
    HoldLimitReached: CONFLICT, "hold_limit_reached", "Hold limit reached";
    /// Only an open hold can be captured or voided.
    HoldNotOpen: CONFLICT, "hold_not_open", "Hold not open";
    /// The amount to capture is larger than the hold.
    HoldTooSmall: CONFLICT, "hold_too_small", "Hold too small";
    /// The amount is larger than the part of the purchase that was not refunded yet.
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
    /// The API key or the dashboard session has as many requests in flight as it may have.
    TooManyInFlight: TOO_MANY_REQUESTS, "too_many_in_flight", "Too many requests in flight";
    /// A fault of the service. The log has the cause.
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
    fn every_code_and_every_title_is_unique() {
        let codes: HashSet<_> = ProblemCode::ALL.iter().map(|code| code.as_str()).collect();
        let titles: HashSet<_> = ProblemCode::ALL.iter().map(|code| code.title()).collect();
        assert_eq!((codes.len(), titles.len()), (ProblemCode::ALL.len(), ProblemCode::ALL.len()));
    }

    #[test]
    fn every_code_is_an_error_and_all_are_ordered_by_status() {
        let statuses = ProblemCode::ALL.iter().map(|code| code.status());
        assert!(
            statuses.clone().all(|status| { status.is_client_error() || status.is_server_error() })
        );
        assert!(statuses.is_sorted());
    }
}
