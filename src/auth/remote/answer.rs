use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use axum::http::StatusCode;
use serde::Deserialize;

use crate::{
    auth::{
        Denied, KeyLimits, Presented, Principal, PrincipalParts, ProblemCode, RateLimited, Taken,
        Taking, Verdict, Waited,
    },
    domain::{
        account::{AccountFormat, ExternalId},
        rate_limit::{Cost, LimitLevel, LimitState, RateLimit},
        scope::{Scope, ScopeSet},
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

/// The code of a response that refuses the admin key.
#[derive(Deserialize)]
struct RefusedAdminKey {
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
    #[serde(default)]
    rate_limits: Vec<ReportedLimit>,
}

/// A rate limit that the request was charged to, or that refuses it.
#[derive(Deserialize)]
struct ReportedLimit {
    name: String,
    limit: i64,
    window_seconds: i64,
    remaining: u32,
    resets_in: Option<u32>,
}

/// The additional members of a response about a key whose request is over a rate limit.
#[derive(Deserialize)]
struct Refusal {
    limits: Vec<String>,
    retry_after: Option<u32>,
    #[serde(default)]
    rate_limits: Vec<ReportedLimit>,
}

/// The rate limits that the server has charged the request to.
#[derive(Debug)]
struct ChargedByServer(Vec<LimitState>);

impl KeyLimits for ChargedByServer {
    fn take(&self, _: &[Scope], _: Cost) -> Taking {
        Taking::Taken(Taken::new())
    }

    fn may_spend(&self, _: &Taken, _: Duration) -> bool {
        true
    }

    fn put_back(&self, _: &Taken, _: Cost) {}

    fn wait<'a>(
        &'a self,
        _: &'a [Scope],
        _: Cost,
    ) -> Pin<Box<dyn Future<Output = Waited> + Send + 'a>> {
        Box::pin(ready(Waited::TryAgain))
    }

    fn states(&self, _: &[Scope]) -> Vec<LimitState> {
        self.0.clone()
    }
}

impl ReportedLimit {
    /// Returns `None` for a limit with a level that this version does not know.
    fn read(&self) -> Result<Option<LimitState>, &'static str> {
        const MALFORMED: &str = "rate_limits is not a list of rate limits";
        let (level, name) = match self.name.split_once(':') {
            None => (LimitLevel::Key, self.name.as_str()),
            Some(("account", name)) => (LimitLevel::Account, name),
            Some(_) => return Ok(None),
        };
        let limit = RateLimit {
            name: name.parse().map_err(|_| MALFORMED)?,
            calls: self.limit.try_into().map_err(|_| MALFORMED)?,
            window: self.window_seconds.try_into().map_err(|_| MALFORMED)?,
            // The server lists only limits that count the request.
            scope: None,
        };
        let state = LimitState::unused(level, &limit);
        Ok(Some(match self.resets_in {
            Some(resets_in) => state.running(self.remaining, resets_in),
            None => state,
        }))
    }

    fn read_all(limits: &[Self]) -> Result<Vec<LimitState>, &'static str> {
        limits.iter().filter_map(|limit| limit.read().transpose()).collect()
    }
}

impl Refusal {
    fn read(body: &[u8]) -> Result<RateLimited, &'static str> {
        let Self { limits, retry_after, rate_limits } = serde_json::from_slice(body)
            .map_err(|_| "a member that describes the refusal is absent or has the wrong type")?;
        Ok(RateLimited::new(limits, retry_after, ReportedLimit::read_all(&rate_limits)?))
    }
}

impl RecognisedKey {
    fn read(body: &[u8]) -> Result<Principal, &'static str> {
        let key: Self = serde_json::from_slice(body)
            .map_err(|_| "a member that describes the key is absent or has the wrong type")?;
        let limits = ReportedLimit::read_all(&key.rate_limits)?;
        let limits = (!limits.is_empty()).then(|| Arc::new(ChargedByServer(limits)) as Arc<_>);
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
            .expiring(expires_at.map_err(|_| "expires_at is not a timestamp")?)
            .limited(limits),
        ))
    }
}

/// Whether the body is the problem with which the server refuses the admin key of a suspended tenant.
/// The server refuses the API keys of this tenant too.
fn is_tenant_suspended(body: &[u8]) -> bool {
    let problem = serde_json::from_slice::<RefusedAdminKey>(body);
    problem.is_ok_and(|problem| problem.code == ProblemCode::TenantSuspended.as_str())
}

/// Parses the verdict of a response. An error neither accepts nor refuses the key.
pub(super) fn read_verdict(
    presented: &Presented<'_>,
    status: StatusCode,
    body: &[u8],
) -> Result<Verdict, Failure> {
    const CONTRADICTION: Failure = Failure::Unreadable("valid and code contradict each other");
    if status == StatusCode::FORBIDDEN && is_tenant_suspended(body) {
        return Ok(Err(Denial::TenantSuspended.into()));
    }
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
        (false, VerificationCode::IpNotAllowed) => Denial::IpNotAllowed,
        (false, VerificationCode::RateLimited) => {
            let principal = RecognisedKey::read(body).map_err(Failure::Unreadable)?;
            let limited = Refusal::read(body).map_err(Failure::Unreadable)?;
            return Ok(Err(Denied::rate_limited(principal, limited)));
        }
        (false, VerificationCode::InsufficientScope) => {
            // The gate refuses a principal that lacks a scope.
            let principal = RecognisedKey::read(body).map_err(Failure::Unreadable)?;
            return match presented.lacking_scope(&principal) {
                Some(_) => Ok(Ok(principal)),
                None => Err(CONTRADICTION),
            };
        }
        // The verification requested no charge.
        (
            false,
            VerificationCode::Valid
            | VerificationCode::InsufficientBalance
            | VerificationCode::SpendLimitExceeded,
        )
        | (true, _) => return Err(CONTRADICTION),
    };
    // Only the log uses the principal of a refused key. So the refusal is valid even if the
    // principal is unreadable.
    Ok(Err(Denied { principal: RecognisedKey::read(body).ok(), ..Denied::new(reason) }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{api_key::KeyText, tenant::Environment};

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
        read_asking_for(&[], response)
    }

    /// Reads the response to a request that asks for these scopes.
    fn read_asking_for(scopes: &[Scope], response: &Value) -> Result<Verdict, Failure> {
        let key = KeyText::parse(KEY).expect("well formed");
        let presented = Presented::new(&key).for_scopes(scopes);
        read_verdict(&presented, StatusCode::OK, response.to_string().as_bytes())
    }

    /// Reads a response with any status and body.
    fn read_raw(status: StatusCode, body: &[u8]) -> Result<Verdict, Failure> {
        let key = KeyText::parse(KEY).expect("well formed");
        read_verdict(&Presented::new(&key), status, body)
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
    fn refused_admin_key_is_a_verdict_only_if_its_tenant_is_suspended() {
        let refused = |code: &str| json!({"status": 403, "code": code}).to_string();
        let read = |code| read_raw(StatusCode::FORBIDDEN, refused(code).as_bytes());
        let suspended = read("tenant_suspended").expect("a verdict");
        assert_eq!(suspended, Err(Denied::from(Denial::TenantSuspended)));
        assert!(matches!(read("insufficient_permission"), Err(Failure::Status(_))));
        let other_status =
            read_raw(StatusCode::UNAUTHORIZED, refused("tenant_suspended").as_bytes());
        assert!(matches!(other_status, Err(Failure::Status(_))));
    }

    #[test]
    fn refusal_contains_the_reason_and_any_readable_principal() {
        for (code, reason) in [
            ("NOT_FOUND", Denial::NotFound),
            ("REVOKED", Denial::Revoked),
            ("EXPIRED", Denial::Expired),
            ("DISABLED", Denial::Disabled),
            ("ACCOUNT_SUSPENDED", Denial::AccountSuspended),
            ("IP_NOT_ALLOWED", Denial::IpNotAllowed),
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
            (false, "INSUFFICIENT_BALANCE"),
            (false, "SOMETHING_NEW"),
        ] {
            let mut contradiction = response_with(code);
            contradiction["valid"] = valid.into();
            assert!(read(&contradiction).is_err(), "{valid} and {code:?}");
        }
    }

    #[test]
    fn insufficient_scope_is_left_to_the_gate_and_contradicts_a_key_that_has_the_scopes() {
        let lacking = ["invoices:write".parse().expect("a scope")];
        let response = response_with("INSUFFICIENT_SCOPE");
        let verdict = read_asking_for(&lacking, &response).expect("a verdict");
        assert_eq!(verdict, Ok(principal()));
        let held = ["orders:read".parse().expect("a scope")];
        assert!(read_asking_for(&held, &response).is_err());
    }

    #[test]
    fn rate_limits_of_a_response_become_the_limits_of_the_principal() {
        let mut charged = response_with("VALID");
        charged["rate_limits"] = json!([
            {"name": "default", "limit": 1000, "window_seconds": 60, "scope": null,
             "remaining": 12, "resets_in": 37},
            {"name": "account:default", "limit": 5000, "window_seconds": 60, "scope": "write",
             "remaining": 5000, "resets_in": null},
        ]);
        let limit = |text: &str| text.parse::<RateLimit>().expect("a limit");
        let states = vec![
            LimitState::unused(LimitLevel::Key, &limit("default=1000/60")).running(12, 37),
            LimitState::unused(LimitLevel::Account, &limit("default=5000/60")),
        ];
        let verdict = read(&charged).expect("a verdict").expect("the key is accepted");
        let limits = verdict.limits.as_ref().expect("the principal has limits");
        assert_eq!(limits.states(&[]), states);

        let later = json!({"name": "plan:default", "limit": 10, "window_seconds": 1, "scope": null,
            "remaining": 1, "resets_in": 1});
        charged["rate_limits"].as_array_mut().expect("a list").push(later);
        let verdict = read(&charged).expect("a verdict").expect("the key is accepted");
        let known = verdict.limits.as_ref().expect("the principal has limits");
        assert_eq!(known.states(&[]), states, "a limit with an unknown level is skipped");

        charged["code"] = "RATE_LIMITED".into();
        charged["valid"] = false.into();
        assert!(read(&charged).is_err(), "without the names of the limits");
        charged["limits"] = json!(["tenant:default"]);
        charged["retry_after"] = json!(37);
        let denied = read(&charged).expect("a verdict").expect_err("the request is refused");
        assert_eq!(denied.reason, Denial::RateLimited);
        let limited = RateLimited::new(vec!["tenant:default".to_owned()], Some(37), states);
        assert_eq!(denied.rate_limited, Some(Box::new(limited)));

        charged["rate_limits"][0]["name"] = "?".into();
        assert!(read(&charged).is_err(), "{charged}");
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
            assert!(read_raw(StatusCode::OK, body.as_bytes()).is_err(), "{body}");
        }
        let good = response_with("VALID").to_string();
        for status in [201, 204, 301, 400, 401, 403, 404, 429, 500, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(read_raw(status, good.as_bytes()).is_err(), "{status}");
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
