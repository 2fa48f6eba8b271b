use axum::http::{HeaderName, HeaderValue};

use super::{Problem, ProblemCode, RateLimited};
use crate::domain::{
    rate_limit::LimitState,
    verification::{Denial, GateDecision},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Builds the response to a request that is over a rate limit.
pub(super) fn rate_limited(limited: &RateLimited) -> Problem {
    let detail = match (limited.limits.first(), limited.retry_after) {
        (Some(limit), Some(seconds)) => {
            format!("The rate limit {limit} is used up. Send the request again in {seconds} s.")
        }
        (Some(limit), None) => format!(
            "The cost of the request is larger than the rate limit {limit}. Divide the request, or \
             raise the limit."
        ),
        (None, _) => "A rate limit is used up. Send the request again later.".to_owned(),
    };
    let problem = Problem::new(ProblemCode::RateLimited, detail)
        .with("limit", limited.limits.first().cloned())
        .with("limits", limited.limits.clone())
        .decided(GateDecision::Denied(Denial::RateLimited));
    match limited.retry_after {
        Some(seconds) => problem.retry_after(seconds),
        None => problem,
    }
}

/// Returns the fields `RateLimit-Policy` and `RateLimit`, as
/// draft-ietf-httpapi-ratelimit-headers-10 defines them. Returns none if there is no limit.
pub(crate) fn rate_limit_fields(states: &[LimitState]) -> Vec<(HeaderName, HeaderValue)> {
    if states.is_empty() {
        return Vec::new();
    }
    let policy = |state: &LimitState| {
        format!("\"{}\";q={};w={}", state.label(), state.calls.get(), state.window.get())
    };
    let limit = |state: &&LimitState| {
        let resets_in = state.resets_in.unwrap_or(state.window.get());
        format!("\"{}\";r={};t={resets_in}", state.label(), state.remaining)
    };
    // Some clients read only the first item, so it is the limit with the smallest remaining part.
    let mut nearest: Vec<&LimitState> = states.iter().collect();
    nearest
        .sort_by_key(|state| u64::from(state.remaining) * 1_000_000 / u64::from(state.calls.get()));
    let field = |items: Vec<String>| {
        HeaderValue::try_from(items.join(", ")).expect("names and numbers are visible ASCII")
    };
    vec![
        (POLICY, field(states.iter().map(policy).collect())),
        (LIMIT, field(nearest.iter().map(limit).collect())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rate_limit::{LimitLevel, RateLimit};

    fn state(level: LimitLevel, limit: &str) -> LimitState {
        LimitState::unused(level, &limit.parse::<RateLimit>().expect("a limit"))
    }

    #[test]
    fn fields_list_the_limit_with_the_smallest_remaining_part_first() {
        let states = [
            state(LimitLevel::Account, "default=5000/60").running(4100, 37),
            state(LimitLevel::Key, "default=1000/60").running(12, 37),
            state(LimitLevel::Key, "orders=10/1@purchases:write"),
        ];
        let [(policy, policies), (limit, limits)] = &rate_limit_fields(&states)[..] else {
            panic!("two fields")
        };
        assert_eq!([policy.as_str(), limit.as_str()], ["ratelimit-policy", "ratelimit"]);
        let expected = "\"account:default\";q=5000;w=60, \"default\";q=1000;w=60, \
                        \"orders\";q=10;w=1";
        assert_eq!(policies, expected);
        let expected = "\"default\";r=12;t=37, \"account:default\";r=4100;t=37, \
                        \"orders\";r=10;t=1";
        assert_eq!(limits, expected);
        assert!(rate_limit_fields(&[]).is_empty());
    }

    #[test]
    fn problem_names_the_limits_and_says_when_to_retry_unless_waiting_does_not_help() {
        let limits = vec!["tenant:default".to_owned(), "default".to_owned()];
        let used_up = rate_limited(&RateLimited::new(limits, Some(37), Vec::new()));
        assert_eq!(used_up.retry_after_seconds(), Some(37));
        let body = used_up.to_value();
        assert_eq!(body["limit"], "tenant:default");
        assert_eq!(body["limits"], serde_json::json!(["tenant:default", "default"]));
        let too_large = RateLimited::new(vec!["default".to_owned()], None, Vec::new());
        assert_eq!(rate_limited(&too_large).retry_after_seconds(), None);
    }
}
