use super::{Problem, ProblemCode, RateLimited};
use crate::domain::verification::{Denial, GateDecision};

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

#[cfg(test)]
mod tests {
    use super::*;

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
