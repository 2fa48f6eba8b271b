"""A program that uses the generated Python client. scripts/check-openapi.sh type-checks and runs it.

Each match handles every value of a closed set. mypy accepts `assert_never` only if the generated type is an enum and
the match handles all its members. mypy must find an error in each line with `type: ignore`, or it reports the comment.
"""

import json
from typing import assert_never

import httpx
from tollgate_client import AuthenticatedClient
from tollgate_client.api.keys import get_key
from tollgate_client.api.purchases import create_purchase
from tollgate_client.models import (
    Account,
    AccountStatus,
    ApiKey,
    CreatePurchaseRequest,
    InsufficientBalanceProblem,
    KeyStatus,
    PatchAccountRequest,
    Problem,
    ProblemCode,
    SpendLimitExceededProblem,
    SpendPeriod,
    VerificationCode,
    VerifyResponse,
)


def describe_key(key: ApiKey) -> str:
    match key.status:
        case KeyStatus.LIVE:
            return "live" if key.enabled else "disabled"
        case KeyStatus.REVOKED:
            return f"revoked: {key.revoked_reason}"
        case KeyStatus.EXPIRED:
            return f"expired at {key.expires_at:%Y-%m-%d}" if key.expires_at else "expired"
        case _:
            assert_never(key.status)


def describe_account(account: Account) -> str:
    match account.status:
        case AccountStatus.ACTIVE | AccountStatus.SUSPENDED:
            return f"{account.id} is {account.status}"
        case _:
            assert_never(account.status)


def describe_verification(verification: VerifyResponse) -> str:
    match verification.code:
        case VerificationCode.VALID:
            return "valid"
        case (
            VerificationCode.NOT_FOUND
            | VerificationCode.REVOKED
            | VerificationCode.EXPIRED
            | VerificationCode.DISABLED
            | VerificationCode.ACCOUNT_SUSPENDED
            | VerificationCode.IP_NOT_ALLOWED
            | VerificationCode.INSUFFICIENT_SCOPE
        ):
            return "refused"
        case VerificationCode.RATE_LIMITED:
            return f"over {verification.limits}"
        case VerificationCode.INSUFFICIENT_BALANCE | VerificationCode.SPEND_LIMIT_EXCEEDED:
            return f"needs {verification.required}"
        case _:
            assert_never(verification.code)


def describe_declined(problem: InsufficientBalanceProblem | SpendLimitExceededProblem) -> str:
    match problem:
        case InsufficientBalanceProblem():
            return f"{problem.required} of {problem.available} {problem.currency}"
        case SpendLimitExceededProblem():
            return f"{problem.required} of {problem.limit} {problem.currency} each {describe_period(problem.period)}"
        case _:
            assert_never(problem)


def describe_period(period: SpendPeriod) -> str:
    match period:
        case SpendPeriod.DAY | SpendPeriod.MONTH:
            return period.value
        case SpendPeriod.TOTAL:
            return "lifetime"
        case _:
            assert_never(period)


def is_transient(problem: Problem) -> bool:
    return problem.code in (ProblemCode.UNAVAILABLE, ProblemCode.REQUEST_TIMEOUT)


def wrong() -> None:
    PatchAccountRequest(status="closed")  # type: ignore[arg-type]
    describe_period("year")  # type: ignore[arg-type]


def client_receiving(status: int, body: dict[str, object]) -> AuthenticatedClient:
    media_type = "application/json" if status < 400 else "application/problem+json"

    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={"Content-Type": media_type}, content=json.dumps(body))

    return AuthenticatedClient(
        "http://tollgate.invalid", "secret", httpx_args={"transport": httpx.MockTransport(respond)}
    )


def main() -> None:
    request_id = "req_01h455vb4pex5vsknk084sn02q"
    declined: dict[str, object] = {
        "type": "urn:tollgate:problem:spend_limit_exceeded",
        "title": "Spend limit exceeded",
        "status": 402,
        "detail": "The purchase needs 5 TRX.",
        "code": "spend_limit_exceeded",
        "request_id": request_id,
        "limit": "50.000000",
        "period": "day",
        "required": "5.000000",
        "available": "1.000000",
        "currency": "TRX",
    }
    answer = create_purchase.sync(client=client_receiving(402, declined), body=CreatePurchaseRequest(amount="5"))
    assert isinstance(answer, SpendLimitExceededProblem), answer
    assert answer.period is SpendPeriod.DAY, answer

    key: dict[str, object] = {
        "id": "key_01h455vb4pex5vsknk084sn02q",
        "hint": "ta_aBcD…_-ab",
        "name": "trading bot 1",
        "scopes": ["orders:write"],
        "metadata": {"strategy": {"name": "grid"}},
        "spend_limit": {"amount": "50.000000", "period": "month"},
        "rate_limits": [{"name": "default", "limit": 1000, "window_seconds": 60, "scope": None}],
        "effective_rate_limits": [
            {
                "name": "default",
                "limit": 1000,
                "window_seconds": 60,
                "scope": None,
                "remaining": 12,
                "resets_at": "2027-01-31T12:00:37.000000Z",
                "resets_in": 37,
            }
        ],
        "allowed_ips": ["203.0.113.0/24"],
        "enabled": True,
        "status": "live",
        "created_at": "2027-01-31T12:00:00.000000Z",
        "last_used_at": None,
        "expires_at": None,
        "revoked_at": None,
        "revoked_reason": None,
        "rotated_from": None,
        "rotated_to": None,
    }
    found = get_key.sync("42", "key_01h455vb4pex5vsknk084sn02q", client=client_receiving(200, key))
    assert isinstance(found, ApiKey), found
    assert describe_key(found) == "live", found
    assert found.created_at.year == 2027 and found.metadata["strategy"] == {"name": "grid"}, found


if __name__ == "__main__":
    main()
