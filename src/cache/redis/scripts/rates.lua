-- Rates of assets in one quote. KEYS: the hash of the quote. ARGV: asset, rate and at (ms) of each, in the order in which they came.
-- The newest `at` wins, and of equal ones the later. Returns {taken, older than what is held}.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local taken, old = 0, 0
for at = 1, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[at])
  local since = held and tonumber(string.match(held, '^%S+ (%d+)$')) or -1
  if since > tonumber(ARGV[at + 2]) then
    old = old + 1
  else
    redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1] .. ' ' .. ARGV[at + 2])
    taken = taken + 1
  end
end
return {taken, old}
