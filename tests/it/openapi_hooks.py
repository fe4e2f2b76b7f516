"""What JSON Schema cannot say of our bodies.

It takes 5.0 for a whole number. The service does not: a number of money or of a user is never read as a floating one.
So whole numbers are spelled without a fraction before they are sent.

It cannot compare the elements of a list either: one seq with two pairs of amounts in one request is refused by the
service. No such list is sent.
"""

import schemathesis


def spelled(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [spelled(one) for one in value]
    if isinstance(value, dict):
        return {key: spelled(one) for key, one in value.items()}
    return value


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
