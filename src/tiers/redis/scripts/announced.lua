-- Remembers, in a cluster, that the news went out. KEYS: the user's entry. ARGV: asset, seq in 19 digits.
local field = 'n:' .. ARGV[1]
local told = redis.call('HGET', KEYS[1], field)
if redis.call('EXISTS', KEYS[1]) == 1 and (not told or told < ARGV[2]) then
  redis.call('HSET', KEYS[1], field, ARGV[2])
end
return 1
