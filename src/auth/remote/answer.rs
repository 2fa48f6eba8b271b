use std::time::Duration;

use axum::http::StatusCode;
use serde::Deserialize;

use crate::{
    auth::{Denied, Principal, PrincipalParts, Verdict},
    domain::{
        account::{AccountFormat, ExternalId},
        scope::ScopeSet,
        timestamp::Timestamp,
        verification::{Denial, VerificationCode},
    },
};

/// Maximum size of a response in bytes. A response with the maximum number of scopes is far
/// smaller.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The reason why no verdict is available, for the log. No message quotes the response, because a
/// server could send the request's secrets back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no response within {0:?}")]
    TimedOut(Duration),
    /// The connection could not be opened, or was closed before the whole response arrived.
    #[error("the connection failed, and so did a new one: {0}")]
    Connection(String),
    #[error("the response is not valid HTTP: {0}")]
    NotHttp(String),
    #[error("the response is longer than {max} bytes", max = MAX_ANSWER_BYTES)]
    TooLong,
    #[error("the response has status {0}")]
    Status(StatusCode),
    #[error("the response is malformed: {0}")]
    Unreadable(&'static str),
}

/// The members of every response to `POST /v1/keys/verify`.
#[derive(Deserialize)]
struct Answer {
    valid: bool,
    code: String,
}

/// The additional members of a response about a known key.
#[derive(Deserialize)]
struct RecognisedKey {
    tenant: String,
    environment: String,
    account: String,
    key_id: String,
    scopes: Vec<String>,
    /// `null` means that the key never expires. The deserializer requires the member, so that a
    /// response without it is an error.
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<String>,
}

impl RecognisedKey {
    fn read(body: &[u8]) -> Result<Principal, &'static str> {
        let key: Self = serde_json::from_slice(body)
            .map_err(|_| "a member that describes the key is absent or has the wrong type")?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        Ok(Principal::new(
            PrincipalParts::new(
                key.tenant.parse().map_err(|_| "tenant is not a slug")?,
                key.environment.parse().map_err(|_| "environment is unknown")?,
                // The Tollgate server has already checked the tenant's format.
                ExternalId::parse(&key.account, AccountFormat::Any)
                    .map_err(|_| "account is not an external id")?,
                key.key_id.parse().map_err(|_| "key_id is not the id of a key")?,
                ScopeSet::parse(&key.scopes).map_err(|_| "scopes is not a list of scopes")?,
            )
            .expiring(expires_at.map_err(|_| "expires_at is not a timestamp")?),
        ))
    }
}

/// Parses the verdict of a response. An error neither accepts nor refuses the key.
pub(super) fn read_verdict(status: StatusCode, body: &[u8]) -> Result<Verdict, Failure> {
    const CONTRADICTION: Failure = Failure::Unreadable("valid and code contradict each other");
    if status != StatusCode::OK {
        return Err(Failure::Status(status));
    }
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|_| Failure::Unreadable("it is not an object with valid and code"))?;
    let code: VerificationCode = answer.code.parse().map_err(|_| CONTRADICTION)?;
    let reason = match (answer.valid, code) {
        (true, VerificationCode::Valid) => {
            return RecognisedKey::read(body).map(Ok).map_err(Failure::Unreadable);
        }
        (false, VerificationCode::NotFound) => Denial::NotFound,
        (false, VerificationCode::Revoked) => Denial::Revoked,
        (false, VerificationCode::Expired) => Denial::Expired,
        (false, VerificationCode::Disabled) => Denial::Disabled,
        (false, VerificationCode::AccountSuspended) => Denial::AccountSuspended,
        // The verification requested neither scopes nor a charge.
        (
            false,
            VerificationCode::Valid
            | VerificationCode::InsufficientScope
            | VerificationCode::InsufficientBalance
            | VerificationCode::SpendLimitExceeded,
        )
        | (true, _) => return Err(CONTRADICTION),
    };
    // Only the log uses the principal of a refused key. So the refusal is valid even if the
    // principal is unreadable.
    Ok(Err(Denied { reason, principal: RecognisedKey::read(body).ok() }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::tenant::Environment;

    const KEY: &str = "ta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    /// Creates a response that contains every member that describes a key.
    fn response_with(code: &str) -> Value {
        json!({
            "valid": code == "VALID",
            "code": code,
            "tenant": "tronagg",
            "environment": "test",
            "key_id": "key_01h455vb4pex5vsknk084sn02q",
            "account": "user-1",
            "scopes": ["orders:read", "purchases:write"],
            "expires_at": "2027-01-31T12:00:00.000000Z",
        })
    }

    fn principal() -> Principal {
        Principal::new(
            PrincipalParts::new(
                "tronagg".parse().expect("a slug"),
                Environment::Test,
                ExternalId::parse("user-1", AccountFormat::Any).expect("an id"),
                "key_01h455vb4pex5vsknk084sn02q".parse().expect("an id"),
                ScopeSet::parse(["orders:read", "purchases:write"]).expect("scopes"),
            )
            .expiring(Some(Timestamp::parse("2027-01-31T12:00:00Z").expect("a time"))),
        )
    }

    fn read(response: &Value) -> Result<Verdict, Failure> {
        read_verdict(StatusCode::OK, response.to_string().as_bytes())
    }

    #[test]
    fn response_about_a_valid_key_is_parsed_into_its_principal() {
        let verdict = read(&response_with("VALID")).expect("a verdict");
        assert_eq!(verdict, Ok(principal()));
        let mut endless = response_with("VALID");
        endless["expires_at"] = Value::Null;
        let verdict = read(&endless).expect("a verdict");
        assert_eq!(verdict.map(|principal| principal.expires_at), Ok(None));
        // A later version may add members.
        let mut longer = response_with("VALID");
        longer["purchase"] = json!({"id": 1});
        assert_eq!(read(&longer).expect("a verdict"), Ok(principal()));
    }

    #[test]
    fn refusal_contains_the_reason_and_any_readable_principal() {
        for (code, reason) in [
            ("NOT_FOUND", Denial::NotFound),
            ("REVOKED", Denial::Revoked),
            ("EXPIRED", Denial::Expired),
            ("DISABLED", Denial::Disabled),
            ("ACCOUNT_SUSPENDED", Denial::AccountSuspended),
        ] {
            let named = read(&response_with(code)).expect("a verdict");
            assert_eq!(named, Err(Denied::of(principal(), reason)));
            let bare = read(&json!({"valid": false, "code": code})).expect("a verdict");
            assert_eq!(bare, Err(Denied::from(reason)));
            let mut garbled = response_with(code);
            garbled["scopes"] = json!(["everything"]);
            assert_eq!(read(&garbled).expect("a verdict"), Err(Denied::from(reason)));
        }
    }

    #[test]
    fn response_whose_code_contradicts_valid_is_an_error() {
        for (valid, code) in [
            (false, "VALID"),
            (true, "REVOKED"),
            (true, "valid"),
            (true, ""),
            (false, "INSUFFICIENT_SCOPE"),
            (false, "INSUFFICIENT_BALANCE"),
            (false, "SOMETHING_NEW"),
        ] {
            let mut contradiction = response_with(code);
            contradiction["valid"] = valid.into();
            assert!(read(&contradiction).is_err(), "{valid} and {code:?}");
        }
    }

    #[test]
    fn valid_response_needs_every_member() {
        let whole = response_with("VALID");
        for member in whole.as_object().expect("an object").keys() {
            let mut less = whole.clone();
            less.as_object_mut().expect("an object").remove(member);
            assert!(read(&less).is_err(), "without {member}");
            for other in [json!(""), json!(7), json!(["?"]), json!({})] {
                let mut changed = whole.clone();
                changed[member] = other;
                assert!(read(&changed).is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn malformed_body_or_unexpected_status_is_an_error() {
        for body in ["", "null", "[]", "\"VALID\"", "{}", "<html>", "{\"valid\":true"] {
            assert!(read_verdict(StatusCode::OK, body.as_bytes()).is_err(), "{body}");
        }
        let good = response_with("VALID").to_string();
        for status in [201, 204, 301, 400, 401, 403, 404, 429, 500, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(read_verdict(status, good.as_bytes()).is_err(), "{status}");
        }
    }

    #[test]
    fn failures_do_not_quote_the_response() {
        let mut tenant = response_with("VALID");
        tenant["tenant"] = KEY.into();
        for echo in [json!({"valid": KEY}), json!({"valid": true, "code": KEY}), tenant] {
            let failure = read(&echo).expect_err("not a verdict");
            assert!(!format!("{failure} {failure:?}").contains("AAAA"), "{failure}");
        }
    }
}
