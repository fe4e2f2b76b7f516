-- A user's snapshot is dropped. KEYS: the user's entry; and the feed, where one script may touch both.
-- ARGV: layout version, user, "1" to forget the floors too.
-- What stays without that: the floors, and the balances that a floor was raised with (they may be ahead of the ledger).
local entry, feed = KEYS[1], KEYS[2]
local version, user, forget = ARGV[1], ARGV[2], ARGV[3] == '1'

local kind = redis.call('TYPE', entry).ok
if forget or (kind ~= 'none' and (kind ~= 'hash' or redis.call('HGET', entry, 'v') ~= version)) then
  redis.call('DEL', entry)
elseif kind == 'hash' then
  local all = redis.call('HGETALL', entry)
  local floors, over = {}, {'whole', 'until', 'lease'}
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'f:' then
      floors[string.sub(all[at], 3)] = string.sub(all[at + 1], 1, 19)
    end
  end
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'b:' and floors[string.sub(all[at], 3)] ~= string.sub(all[at + 1], 1, 19) then
      over[#over + 1] = all[at]
    end
  end
  for at = 1, #over, 1000 do
    redis.call('HDEL', entry, unpack(over, at, math.min(at + 999, #over)))
  end
end
if feed then
  append(feed, forget and 'x' or 'd', user)
end
return 1
