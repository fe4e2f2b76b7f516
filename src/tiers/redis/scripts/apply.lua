-- A notification takes effect: the floor rises, what is held moves forward or may not be shown any more, the lease is
-- revoked, the news goes out. KEYS: the user's entry; and the feed, where one script may touch both (not in a cluster).
-- ARGV: layout version, epoch, floor TTL in ms, user, asset or "*", seq in 19 digits or "", rest of the balance or "", "1" if
-- the values came from a reader's own look at the ledger: no floor, no news, only what is held moves.
-- Returns {old, announce}: old = 1 if nothing was news; announce = 1 if the news has to go out and did not go out here.
local entry, feed = KEYS[1], KEYS[2]
local version, epoch, floor_ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
local user, asset, seq, rest, observed = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local kind = redis.call('TYPE', entry).ok
if kind ~= 'none' and (kind ~= 'hash' or redis.call('HGET', entry, 'v') ~= version) then
  redis.call('DEL', entry)
end
local held = redis.call('HMGET', entry, 'epoch', 'whole', 'f:' .. asset, 'b:' .. asset, 'n:' .. asset)
local is_whole, floor, balance, told = held[2] == '1', held[3], held[4], held[5]
if held[1] ~= epoch then
  if observed then
    return {1, 0}
  end
  redis.call('HDEL', entry, 'whole', 'until', 'lease')
  redis.call('HSET', entry, 'v', version, 'epoch', epoch)
  is_whole = false
end
local balance_seq = balance and string.sub(balance, 1, 19) or ''
-- A floor that has ended is none.
local floor_until = tonumber(floor and string.match(floor, ' (%d+)$') or '0')
local floor_seq = floor_until > now and string.sub(floor, 1, 19) or ''

if observed then
  if is_whole and balance_seq < seq then
    redis.call('HSET', entry, 'b:' .. asset, seq .. ' ' .. rest)
    return {0, 0}
  end
  return {1, 0}
end

local expires = now + floor_ttl
local old, announce = 0, 1
if seq == '' then
  redis.call('HDEL', entry, 'whole', 'lease')
  redis.call('HSET', entry, 'd:' .. asset, string.format('%d', expires))
else
  if floor_seq >= seq or balance_seq >= seq then
    old = 1
  end
  if floor_seq <= seq then
    redis.call('HSET', entry, 'f:' .. asset, seq .. ' ' .. string.format('%d', expires))
  end
  if rest ~= '' and balance_seq < seq then
    redis.call('HSET', entry, 'b:' .. asset, seq .. ' ' .. rest)
    balance_seq = seq
  end
  if balance_seq < seq then
    redis.call('HDEL', entry, 'whole')
  end
  redis.call('HDEL', entry, 'lease')
  -- A higher seq that was told counts as long as its floor lives: one that was a mistake must not silence what is real.
  if told == seq or (told and told > seq and floor_seq >= told) then
    announce = 0
  end
end
if redis.call('PTTL', entry) < floor_ttl then
  redis.call('PEXPIREAT', entry, string.format('%d', expires))
end

if announce == 1 and feed then
  local form = redis.call('TYPE', feed).ok
  if form ~= 'stream' and form ~= 'none' then
    redis.call('DEL', feed)
  end
  local last = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)
  local before = last[1] and last[1][1] or '0-0'
  redis.call('XADD', feed, '*', 'p', before, 'u', user, 'a', asset, 's', seq, 'r', rest)
  if seq ~= '' then
    redis.call('HSET', entry, 'n:' .. asset, seq)
  end
  announce = 0
end
return {old, announce}
