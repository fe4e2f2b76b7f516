-- Remembers, in a cluster, that the news went out. KEYS: the user's entry. ARGV: asset, seq.
local field = 'n:' .. ARGV[1]
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local told = redis.call('HGET', KEYS[1], field)
  if below(seq_of(told), ARGV[2]) then
    redis.call('HSET', KEYS[1], field, ARGV[2])
  end
end
return 1
