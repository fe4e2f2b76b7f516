"""What schemathesis cannot know of our numbers.

JSON Schema takes 5.0 for a whole number. The service does not: a number of money or of a user is never read as a
floating one. So whole numbers are spelled without a fraction before they are sent.
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
