"""Asks the cases in turn: python3 client.py http|requests|aiohttp ADDRESS TOKEN CASES ROUNDS. Prints what was lost."""

import http.client
import sys

library, address, token, cases, rounds = sys.argv[1:6]
BODY = '{"user_id":1001}'


def wanted():
    for line in open(cases):
        if line.startswith("#"):
            continue
        method, path, auth, kind, size, status = line.split()
        headers = {"Authorization": f"Bearer {token}"} if auth == "token" else {}
        if kind != "-":
            headers["Content-Type"] = kind
        body = (" " * int(size) if int(size) else BODY).encode() if method == "POST" else None
        yield method, path, headers, body, int(status)


CASES = list(wanted())
asked = lost = 0


def count(case, status):
    global asked, lost
    asked += 1
    if status != case[4]:
        lost += 1
        print(f"{library}: {case[0]} {case[1]}: {status} instead of {case[4]}")


def by_http():
    connection = None
    for _ in range(int(rounds)):
        for case in CASES:
            method, path, headers, body, _ = case
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(address, timeout=30)
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.will_close:
                    connection = None
                count(case, answer.status)
            except OSError as error:
                connection = None
                count(case, error)


def by_requests():
    import requests

    session = requests.Session()
    session.trust_env = False
    for _ in range(int(rounds)):
        for case in CASES:
            method, path, headers, body, _ = case
            try:
                answer = session.request(method, f"http://{address}{path}", data=body, headers=headers, timeout=30)
                count(case, answer.status_code)
            except requests.RequestException as error:
                count(case, error)


def by_aiohttp():
    import asyncio

    import aiohttp

    async def ask():
        async with aiohttp.ClientSession() as session:
            for _ in range(int(rounds)):
                for case in CASES:
                    method, path, headers, body, _ = case
                    try:
                        url = f"http://{address}{path}"
                        async with session.request(method, url, data=body, headers=headers) as answer:
                            await answer.read()
                            count(case, answer.status)
                    except aiohttp.ClientError as error:
                        count(case, error)

    asyncio.run(ask())


{"http": by_http, "requests": by_requests, "aiohttp": by_aiohttp}[library]()
print(f"{library}: {asked} asked, {lost} lost")
sys.exit(1 if lost else 0)
