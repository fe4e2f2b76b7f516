-- Remembers with the floor, in a cluster, that the news went out. KEYS: the user's entry. ARGV: asset, seq.
local field = 'f:' .. ARGV[1]
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local seq, told, ends = floor_of(redis.call('HGET', KEYS[1], field))
  if seq ~= '' and below(told, ARGV[2]) then
    redis.call('HSET', KEYS[1], field, floor_text(seq, ARGV[2], ends))
  end
end
return 1
