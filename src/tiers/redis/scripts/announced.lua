-- Remembers, in a cluster, that the news went out. KEYS: the user's entry. ARGV: asset, seq in 19 digits.
local field = 'n:' .. ARGV[1]
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local told = redis.call('HGET', KEYS[1], field)
  if not told or told < ARGV[2] then
    redis.call('HSET', KEYS[1], field, ARGV[2])
  end
end
return 1
