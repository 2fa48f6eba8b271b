"""The backend of a tenant, which creates and changes keys of one account."""

import json

from processes import Broken

ACCOUNT = "TMVQGm1qAQYVdetCeGRRkTWYYrLXuHK2HC"


class Backend:
    """Sends requests with an admin key on one connection."""

    def __init__(self, connection, admin_key):
        self._connection = connection
        self._admin_key = admin_key

    def create_account(self):
        self._call("PUT", "", {}, 200, 201)

    def create_key(self, **members):
        """Returns the new key, with its text."""
        return self._call("POST", "/keys", {"name": "benchmark", **members}, 201)

    def change_key(self, key, **members):
        self._call("PATCH", f"/keys/{key['id']}", members, 200)

    def revoke_key(self, key):
        self._call("POST", f"/keys/{key['id']}/revoke", {}, 200)

    def _call(self, method, path, body, *wanted):
        text = json.dumps(body)
        head = f"{method} /v1/accounts/{ACCOUNT}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Authorization: Bearer {self._admin_key}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()
        status, answer = self._connection.ask(request)
        if status not in wanted:
            raise Broken(f"{method} {path} got status {status}: {answer.decode(errors='replace')}")
        return json.loads(answer)


def rate_limit(calls, window_seconds=3600):
    """Returns the settings of a key with one rate limit."""
    return {"rate_limits": [{"name": "default", "limit": calls, "window_seconds": window_seconds}]}
