"""The users of a run, what they own, and who is asked for: the same in every run."""

import bisect
import itertools
import json
import random

USERS = 10_000
ASSETS = ((1, "BTC", 17), (2, "USDT", 18), (3, "ETH", 19))
CREATED = 1_765_352_441_955
UNIT = 100_000_000
ZIPF = 0.99
SEED = 20_261_121
PATH = "/api/user/balance?user_id={}"
NOTIFY = "/api/v1/settlements"
WRITE = "/api/v1/ledger/entries"
# Every so many reads a settlement.
SETTLEMENT_EACH = 100


def amount(user, asset):
    """Whole units."""
    return 1_000 + (user * 7_919 + asset * 104_729) % 90_000


def entries(users):
    return [{"user_id": user, "asset_id": asset, "seq": seq, "avail": amount(user, asset) * UNIT, "frozen": 0,
             "created_at": CREATED} for user in users for asset, _, seq in ASSETS]


def body(user):
    """What a right answer holds, byte for byte."""
    rows = [{"asset": name, "avail": str(amount(user, asset)), "frozen": "0", "seq": seq, "updated_at": CREATED}
            for asset, name, seq in ASSETS]
    return json.dumps({"status": 0, "msg": "ok", "data": rows}, separators=(",", ":")).encode()


def zipf(count):
    """Users as they ask: few of them often. The frequent ones are anywhere in the range."""
    chance = random.Random(SEED)
    sums = list(itertools.accumulate(1 / rank ** ZIPF for rank in range(1, USERS + 1)))
    of_rank = list(range(1, USERS + 1))
    chance.shuffle(of_rank)
    return [of_rank[bisect.bisect(sums, chance.random() * sums[-1])] for _ in range(count)]


def uniform(count):
    chance = random.Random(SEED)
    return [chance.randint(1, USERS) for _ in range(count)]


def shuffled():
    """Every user once."""
    users = list(range(1, USERS + 1))
    random.Random(SEED).shuffle(users)
    return users


def reads(users, path=PATH):
    return ["GET " + path.format(user) for user in users]


def mixed(users, path):
    """Reads, and each hundredth of them is followed by a settlement of that user, to this path."""
    lines = []
    for at, (line, user) in enumerate(zip(reads(users), users)):
        lines.append(line)
        if at % SETTLEMENT_EACH == 0:
            asset = ASSETS[at // SETTLEMENT_EACH % len(ASSETS)][0]
            lines.append('POST %s {"user_id":%d,"asset_id":%d,"seq":@SEQ@,"avail":%d,"frozen":0,"created_at":%d}'
                         % (path, user, asset, at * 1_000_003, CREATED))
    return lines


def batches(users, size):
    bodies = (users[at:at + size] for at in range(0, len(users) - size + 1, size))
    return ["POST /api/v1/user/balances " + json.dumps({"user_ids": ids}, separators=(",", ":")) for ids in bodies]
