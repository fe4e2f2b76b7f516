-- The total of one asset. KEYS: its hash. ARGV: the fence of the scan, then fields and values.
-- A scan whose right ended long ago does not overwrite a later one. Returns 1 if it is written.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local held = tonumber(redis.call('HGET', KEYS[1], 'fence') or '') or 0
if held > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], unpack(ARGV, 2))
return 1
