"""What JSON Schema cannot say of our bodies.

It takes 5.0 for a whole number. The service does not: a number of money or of a user is never read as a floating one.
So whole numbers are spelled without a fraction before they are sent.

It cannot compare the elements of a list either: one seq with two pairs of amounts in one request is refused by the
service. No such list is sent.

It cannot say which cursors the service has given: one that was made up is left out where it has the form of a cursor.

It cannot add or multiply: a transaction that changes nothing, entries that expect two seqs of one balance, and a trade whose cost
is not price times quantity are mended before they are sent, where nothing else is wrong with those numbers.

It cannot compare a rate's asset with the quote, which counts at rate 1, nor say that a decimal is above 0: such a rate is
sent as 1.
"""

import re

import schemathesis


def spelled(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [spelled(one) for one in value]
    if isinstance(value, dict):
        return {key: spelled(one) for key, one in value.items()}
    return value


def whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def mend_transaction(one):
    entries = [entry for entry in one["entries"] if isinstance(entry, dict)]
    sums, expected = {}, {}
    for entry in entries:
        pair = (repr(entry.get("user_id")), repr(entry.get("asset_id")))
        seq = entry.get("expect_seq")
        expected.setdefault(pair, set()).add(seq if seq is None or (whole(seq) and seq >= 0) else "bad")
        for name in ("delta_avail", "delta_frozen"):
            delta = entry.get(name)
            if not (delta is None or whole(delta)):
                return
            sums[pair, name] = sums.get((pair, name), 0) + (delta or 0)
    if any(len(seqs) > 1 and "bad" not in seqs for seqs in expected.values()):
        for entry in entries:
            entry.pop("expect_seq", None)
    if entries and not any(sums.values()):
        entries[0]["delta_avail"] = entries[0].get("delta_avail") or 0
        entries[0]["delta_avail"] += 1 if entries[0]["delta_avail"] < 0 else -1


def mend_trade(one):
    price, quantity, given = one.get("price"), one.get("quantity"), one.get("cost")
    if whole(price) and whole(quantity) and price in MONEY and quantity in MONEY:
        if price * quantity // 10**8 not in MONEY:
            one["price"], one["quantity"] = price, quantity = 10**8, 1
        cost = price * quantity // 10**8
        if whole(given) and given in MONEY and given not in (cost, cost + 1):
            one["cost"] = cost
    fees = one.get("fees")
    for fee in fees if isinstance(fees, list) else []:
        if isinstance(fee, dict) and whole(fee.get("user_id")) and fee["user_id"] in MONEY:
            if fee["user_id"] == fee.get("to_user_id"):
                fee["to_user_id"] = 1 if fee["user_id"] != 1 else 2


def mend_rates(body):
    for one in body["rates"]:
        if isinstance(one, dict) and isinstance(one.get("rate"), str) and RATE.fullmatch(one["rate"]):
            if one.get("asset") == body.get("quote") or not one["rate"].strip("0."):
                one["rate"] = "1"


MONEY = range(1, 2**63)
RATE = re.compile(r"(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?")


@schemathesis.hook
def before_call(context, case, kwargs):
    cursor = (case.query or {}).get("cursor")
    if isinstance(cursor, str) and re.fullmatch("[A-Za-z0-9_-]{1,200}", cursor):
        del case.query["cursor"]
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("rates"), list):
        mend_rates(body)
    for one in body if isinstance(body, list) else [body]:
        if isinstance(one, dict) and isinstance(one.get("entries"), list):
            mend_transaction(one)
        elif isinstance(one, dict) and "symbol" in one:
            mend_trade(one)


@schemathesis.hook
def map_body(context, body):
    return spelled(body)


@schemathesis.hook
def filter_body(context, body):
    amounts = {}
    for one in body if isinstance(body, list) else []:
        if not isinstance(one, dict):
            continue
        key = repr([one.get(name) for name in ("user_id", "asset_id", "seq")])
        said = repr([one.get(name) for name in ("avail", "frozen")])
        if amounts.setdefault(key, said) != said:
            return False
    return True
