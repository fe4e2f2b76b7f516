#!/bin/sh
# A client of balance-cache in curl.
#
#   examples/curl.sh read USER [MIN_SEQ]   not older than MIN_SEQ, as BTC:18,USDT:9
#   examples/curl.sh notify JSON           one notification or an array; again until it is acknowledged
#
# BALANCE_CACHE_URL (http://127.0.0.1:3001), BALANCE_CACHE_TOKEN. Exit code 1: no answer that counts.
set -eu

url=${BALANCE_CACHE_URL:-http://127.0.0.1:3001}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# curl itself waits as long as Retry-After says after 429 and 503. Into a file: of several answers the last one counts.
ask() {
    set -- --silent --show-error --fail-with-body --output "$answer" --max-time 10 \
        --retry 10 --retry-max-time 60 --retry-connrefused "$@"
    if [ -n "${BALANCE_CACHE_TOKEN:-}" ]; then
        set -- --header "Authorization: Bearer $BALANCE_CACHE_TOKEN" "$@"
    fi
    if curl "$@"; then
        cat "$answer" && echo
    else
        cat "$answer" >&2 && echo >&2
        exit 1
    fi
}

case ${1:-} in
    read) ask "$url/api/user/balance?user_id=$2${3:+&min_seq=$3}" ;;
    notify) ask --header 'Content-Type: application/json' --data "$2" "$url/api/v1/settlements" ;;
    *) sed -n 's/^#   //p' "$0" >&2 && exit 2 ;;
esac
