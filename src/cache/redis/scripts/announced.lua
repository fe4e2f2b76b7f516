-- Remembers with the floors, in a cluster, that the news went out. KEYS: the user's entry. ARGV: asset and seq of each change.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  for at = 1, #ARGV, 2 do
    local field = 'f:' .. ARGV[at]
    local seq, told, ends = floor_of(redis.call('HGET', KEYS[1], field))
    if seq ~= '' and below(told, ARGV[at + 1]) then
      redis.call('HSET', KEYS[1], field, floor_text(seq, ARGV[at + 1], ends))
    end
  end
end
return 1
