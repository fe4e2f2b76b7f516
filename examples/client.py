"""A client of balance-cache in Python, with its standard library alone.

    client.py read USER [MIN_SEQ]   not older than MIN_SEQ, as BTC:18,USDT:9
    client.py notify JSON           one notification or an array; again until it is acknowledged

BALANCE_CACHE_URL (http://127.0.0.1:3001), BALANCE_CACHE_TOKEN. Exit code 1: no answer that counts.
"""

import json
import os
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

TRIES = 10
WAIT_MAX_SECONDS = 30


class Refused(Exception):
    """The service answered, and the same request will not succeed."""


class BalanceCache:
    def __init__(self, url, token=""):
        self.url = url
        self.headers = {"Content-Type": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def read(self, user_id, min_seq=""):
        """All balances of a user. Amounts are decimal strings: `decimal.Decimal(balance["avail"])`."""
        query = {"user_id": user_id} | ({"min_seq": min_seq} if min_seq else {})
        return self._ask("/api/user/balance?" + urllib.parse.urlencode(query))

    def notify(self, notifications):
        """Returns when every later read shows it. Until then keep it and send it again: repeats are harmless."""
        return self._ask("/api/v1/settlements", json.dumps(notifications).encode())

    def _ask(self, path, body=None):
        problem = None
        for _ in range(TRIES):
            wait = 1.0
            try:
                request = urllib.request.Request(self.url + path, body, self.headers)
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError as error:
                envelope = json.load(error)
                problem = Refused(f"{error.code}/{envelope['status']}: {envelope['msg']}")
                if error.code not in (429, 503):
                    raise problem from None
                wait = float(error.headers.get("Retry-After", 1))
            except OSError as error:  # no connection, or no answer in time
                problem = error
            # A little more than asked for, so that many clients do not come back at once.
            time.sleep(min(wait, WAIT_MAX_SECONDS) + random.random() / 4)
        raise problem


def main(words):
    client = BalanceCache(
        os.environ.get("BALANCE_CACHE_URL", "http://127.0.0.1:3001"),
        os.environ.get("BALANCE_CACHE_TOKEN", ""),
    )
    try:
        match words:
            case ["read", user_id]:
                data = client.read(user_id)
            case ["read", user_id, min_seq]:
                data = client.read(user_id, min_seq)
            case ["notify", text]:
                data = client.notify(json.loads(text))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (Refused, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    print(json.dumps(data))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
