-- News goes out, in a cluster, where the feed and the user's entry live apart. KEYS: the feed. ARGV: fields and values.
local form = redis.call('TYPE', KEYS[1]).ok
if form ~= 'stream' and form ~= 'none' then
  redis.call('DEL', KEYS[1])
end
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local before = last[1] and last[1][1] or '0-0'
return redis.call('XADD', KEYS[1], '*', 'p', before, unpack(ARGV))
