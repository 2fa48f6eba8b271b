#!/usr/bin/env python3
"""A small trading bot that buys with an API key.

    python3 examples/bot.py balance
    python3 examples/bot.py buy 1.500000 --reference energy-65000

The bot reads TRONAGG_API_KEY from the environment or from a file `.env`:

    TRONAGG_API_KEY=ta_...

If the service is not on this machine, also set TRONAGG_URL.

Before the first run, install its packages with `pip install requests python-dotenv`.

Exit status: 0 success; 1 refused for another reason; 2 the key is missing or invalid (401);
3 insufficient balance (402); 4 the key or its account is not allowed to do this (403);
5 no response. After status 5, the service may have made the purchase. Run the same command with
the same --idempotency-key to find out. The service does not charge twice.
"""

import argparse
import os
import sys
import time
import uuid

import requests
from dotenv import find_dotenv, load_dotenv

TRIES = 5
TIMEOUT_SECONDS = 10
LONGEST_WAIT_SECONDS = 30

REFUSED, BAD_KEY, NOT_ENOUGH, NOT_ALLOWED, NO_ANSWER = 1, 2, 3, 4, 5


def main():
    arguments = parse_arguments()
    load_dotenv(find_dotenv(usecwd=True))
    key = os.environ.get("TRONAGG_API_KEY", "").strip()
    if not key:
        fail(BAD_KEY, "TRONAGG_API_KEY is not set. Put it into .env or export it")
    url = os.environ.get("TRONAGG_URL", "http://127.0.0.1:8080").rstrip("/")
    with requests.Session() as session:
        session.headers["X-API-Key"] = key
        if arguments.command == "balance":
            show_balance(session, url)
        else:
            buy(session, url, arguments)


def parse_arguments():
    parser = argparse.ArgumentParser(description="Buys with an API key.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("balance", help="show the balance")
    purchase = commands.add_parser("buy", help="make a purchase")
    purchase.add_argument("amount", metavar="AMOUNT", help="a decimal, such as 1.500000")
    purchase.add_argument("--reference", required=True, help="your own text for the purchase")
    purchase.add_argument("--idempotency-key", help="the key of an earlier purchase, to repeat it safely")
    return parser.parse_args()


def show_balance(session, url):
    me = answer(send(session, "GET", f"{url}/v1/me"))
    balance = me["balance"]
    print(f"account {me['account']['id']} ({me['account']['status']})")
    print(f"balance {balance['amount']} {balance['currency']}")


def buy(session, url, arguments):
    # All attempts send this idempotency key. Even if a request or a response is lost, the service charges
    # once.
    idempotency_key = arguments.idempotency_key or str(uuid.uuid4())
    print(f"idempotency key {idempotency_key}", file=sys.stderr)
    response = send(
        session,
        "POST",
        f"{url}/v1/purchases",
        # An amount is a string, because floating point would round it.
        json={"amount": arguments.amount, "reference": arguments.reference},
        headers={"Idempotency-Key": idempotency_key},
    )
    purchase = answer(response)
    print(f"purchase {purchase['id']} {purchase['amount']}")
    if response.headers.get("Idempotent-Replayed") == "true":
        print("(the purchase was made earlier; nothing was charged now)", file=sys.stderr)


def send(session, method, url, **request):
    """Sends the same request until a response arrives, at most TRIES times."""
    for attempt in range(1, TRIES + 1):
        try:
            response = session.request(method, url, timeout=TIMEOUT_SECONDS, **request)
        except (requests.ConnectionError, requests.Timeout) as error:
            problem, wait = type(error).__name__, None
        else:
            if response.status_code != 503:
                return response
            problem, wait = "503", response.headers.get("Retry-After")
        if attempt < TRIES:
            seconds = wait_seconds(wait, attempt)
            print(f"{problem}: attempt {attempt} of {TRIES}, retrying in {seconds:g} s", file=sys.stderr)
            time.sleep(seconds)
    fail(NO_ANSWER, f"no response after {TRIES} attempts ({problem})")


def wait_seconds(retry_after, attempt):
    if retry_after is not None and retry_after.isdigit():
        return min(int(retry_after), LONGEST_WAIT_SECONDS)
    return 0.5 * 2 ** (attempt - 1)


def answer(response):
    """Returns the body of a successful response. Otherwise exits with a line that says what to do."""
    if response.ok:
        return response.json()
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    detail = problem.get("detail") or problem.get("title") or response.reason
    if response.status_code == 401:
        fail(BAD_KEY, "the API key is missing, invalid or revoked. Check TRONAGG_API_KEY, or create a new key")
    if response.status_code == 402:
        fail(NOT_ENOUGH, f"insufficient balance: {problem['required']} required, {problem['available']} available")
    if response.status_code == 403:
        fail(NOT_ALLOWED, f"not allowed ({problem.get('code')}): {detail}")
    fail(REFUSED, f"{response.status_code} {problem.get('code', '')}: {detail} (request {problem.get('request_id')})")


def fail(status, message):
    print(f"bot: {message}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
