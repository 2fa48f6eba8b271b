"""A client that reads its rate limits with retryheader, a library for the fields of the IETF draft.

scripts/check-rate-limit-clients.sh type-checks this program, and runs it against a demo server with a new key. The key
may make two calls in an hour, and its account ten in a day.
"""

import os
import urllib.error
import urllib.request
from email.message import Message

from retryheader import delay_from_headers, parse_ratelimit, parse_ratelimit_policy

HOUR, DAY = 3600, 86_400


def call() -> tuple[int, Message]:
    url = f"{os.environ['TOLLGATE_URL']}/v1/authorize/tradetally/live"
    request = urllib.request.Request(url, headers={"X-API-Key": os.environ["API_KEY"]})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers


def main() -> None:
    for status, of_key, of_account in [(200, 1, 9), (200, 0, 8), (429, 0, 8)]:
        got, headers = call()
        assert got == status, f"status {got} instead of {status}"

        policies = parse_ratelimit_policy(headers.get_all("RateLimit-Policy", []))
        found = [(policy.name, policy.quota, policy.window, policy.unit) for policy in policies]
        expected = [("default", 2, HOUR, "requests"), ("account:default", 10, DAY, "requests")]
        assert found == expected, found

        limits = parse_ratelimit(headers.get_all("RateLimit", []))
        left = [(limit.policy, limit.remaining) for limit in limits]
        assert left == [("default", of_key), ("account:default", of_account)], left
        windows = [limit.window or 0 for limit in limits]
        assert 0 < windows[0] <= HOUR < windows[1] <= DAY, windows

        fields = [(name, value) for name, value in headers.items() if name.lower() != "retry-after"]
        by_fields = delay_from_headers(fields)
        by_all = delay_from_headers(headers)
        if of_key > 0:
            assert by_fields is None and by_all is None, (by_fields, by_all)
        else:
            # The window of the limit that is used up says when to send the next call. Retry-After says the same, but
            # the second may have changed between the two.
            assert by_fields == windows[0], by_fields
            assert by_all is not None and abs(by_all - by_fields) <= 1, (by_all, by_fields)
        assert ("Retry-After" in headers) == (status == 429), headers
    print("ok: retryheader parses the fields of two passes and of a refusal")


if __name__ == "__main__":
    main()
