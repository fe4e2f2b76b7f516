#!/usr/bin/env bash
# Load on running instances, so that boards have something to show: writes LOAD_USERS users of three assets, then reads them
# with oha through every target at once, while a settlement comes every 50 ms; some reads want the ledger.
#
#   LOAD_TARGETS      base addresses, with blanks between (http://127.0.0.1:3001)
#   LOAD_USERS        how many users, from 1 on (999)
#   LOAD_SECONDS      how long (60)
#   LOAD_CONNECTIONS  connections to each target (32)
#
# Needs bash, curl and oha. The same users again are no error: the same amounts stand under the same seq.

set -euo pipefail

read -r -a targets <<<"${LOAD_TARGETS:-http://127.0.0.1:3001}"
users=${LOAD_USERS:-999}
seconds=${LOAD_SECONDS:-60}
connections=${LOAD_CONNECTIONS:-32}
# Users per request: three entries each, and a request may have 1,000.
BATCH=300

post() {
    curl --silent --show-error --fail --output /dev/null --header 'content-type: application/json' --data-binary @- "$1"
}

# Asset, seq, amount and time: one entry of the ledger.
entry() {
    printf '{"user_id":%d,"asset_id":%d,"seq":%d,"avail":%d,"frozen":0,"created_at":%d}' "$@"
}

seed() {
    local first user last asset separator
    for ((first = 1; first <= users; first += BATCH)); do
        last=$((first + BATCH - 1 < users ? first + BATCH - 1 : users))
        separator='['
        for ((user = first; user <= last; user++)); do
            for asset in 1 2 3; do
                printf '%s' "$separator"
                entry "$user" "$asset" 1 $((user * 1000000 + asset)) 1765352441955
                separator=','
            done
        done
        printf ']\n'
    done | while IFS= read -r batch; do
        post "${targets[0]}/api/v1/ledger/entries" <<<"$batch"
    done
}

settle() {
    local now target
    while sleep 0.05; do
        now=$(date +%s%3N)
        target=${targets[RANDOM % ${#targets[@]}]}
        entry $((RANDOM % users + 1)) $((RANDOM % 3 + 1)) "$now" $((RANDOM * 1000000)) "$now" |
            post "$target/api/v1/ledger/entries" || true
    done
}

seed
echo "$users users are written; $seconds s of reads begin"

settle &
settling=$!
trap 'kill "$settling"' EXIT

loads=()
for target in "${targets[@]}"; do
    oha --no-tui -z "${seconds}s" -c "$connections" --rand-regex-url \
        "$target/api/user/balance\?user_id=[1-9][0-9]{0,2}" &
    loads+=($!)
    oha --no-tui -z "${seconds}s" -c 1 -q 5 -H 'cache-control: no-cache' --rand-regex-url \
        "$target/api/user/balance\?user_id=[1-9][0-9]{0,2}" >/dev/null &
    loads+=($!)
done
for load in "${loads[@]}"; do
    wait "$load"
done
