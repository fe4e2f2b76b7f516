-- The epoch of this Redis: an unbroken life of its data. KEYS: the epoch.
-- ARGV: fingerprint of the servers (their run and replication ids), an id for a new epoch, the fingerprint from which these servers
-- went on with the same data (or ""), the id of an epoch that has ended, because the clock was set (or "").
-- Another fingerprint is another life: what it holds may be older than what was acknowledged.
-- Returns {id, birth in ms, now in ms, "1" if it is new}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local held = redis.call('HMGET', KEYS[1], 'id', 'birth', 'servers')
  local known = held[3] == ARGV[1] or held[3] and held[3] == ARGV[3]
  if held[1] and held[2] and known and held[1] ~= ARGV[4] then
    if held[3] ~= ARGV[1] then
      redis.pcall('HSET', KEYS[1], 'servers', ARGV[1])
    end
    return {held[1], held[2], string.format('%d', now), '0'}
  end
end
local epoch = {'id', ARGV[2], 'birth', string.format('%d', now), 'servers', ARGV[1]}
local set = redis.pcall('HSET', KEYS[1], unpack(epoch))
if type(set) == 'table' then
  -- Behind a deletion Redis would no longer refuse it for lack of memory.
  if not string.find(set.err, 'WRONGTYPE', 1, true) then
    return set
  end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], unpack(epoch))
end
return {ARGV[2], string.format('%d', now), string.format('%d', now), '1'}
