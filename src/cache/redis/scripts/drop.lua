-- A user's snapshot is dropped. KEYS: the user's entry; and the feed, where one script may touch both.
-- ARGV: layout version, user, "1" to forget the floors too.
-- These stay without that: the floors, and the balances that a floor was raised with (they may be ahead of the ledger).
local entry, feed = KEYS[1], KEYS[2]
local version, user, forget = ARGV[1], ARGV[2], ARGV[3] == '1'

-- The feed first: if it cannot be written, nothing has happened.
if feed then
  local told = append(feed, forget and 'x' or 'd', user)
  if type(told) == 'table' then
    return told
  end
end
local kind = redis.call('TYPE', entry).ok
local held_version, epoch = header(kind == 'hash' and redis.call('HGET', entry, 'v'))
if forget or (kind ~= 'none' and held_version ~= version) then
  redis.call('DEL', entry)
elseif kind == 'hash' then
  local all = redis.call('HGETALL', entry)
  local floors, over = {}, {'lease'}
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'f:' then
      floors[string.sub(all[at], 3)] = seq_of(all[at + 1])
    end
  end
  for at = 1, #all, 2 do
    if string.sub(all[at], 1, 2) == 'b:' and floors[string.sub(all[at], 3)] ~= seq_of(all[at + 1]) then
      over[#over + 1] = all[at]
    end
  end
  redis.call('HSET', entry, 'v', header_text(version, epoch, '0', false))
  for at = 1, #over, 1000 do
    redis.call('HDEL', entry, unpack(over, at, math.min(at + 999, #over)))
  end
end
return 1
