-- Tries each command of a settlement without changing anything. KEYS: the feed; and, where one script may touch both (not in a
-- cluster), an entry that no user has. Returns {} or {command, error}.
-- Redis checks rights, memory, role and replicas before it looks at an id, a type or an absent key.
local feed, entry = KEYS[1], KEYS[2] or KEYS[1]

-- The error of a command; none for one that is among those that were meant to come.
local function try(meant, command, ...)
  local reply = redis.pcall(command, ...)
  local err = type(reply) == 'table' and reply.err
  if err and not (meant and string.find(err, meant, 1, true)) then
    return {command, err}
  end
end

local kind = redis.pcall('TYPE', feed)
if kind.err then
  return {'TYPE', kind.err}
end
local wrong = KEYS[2] and nil or 'WRONGTYPE'
return try(nil, 'TIME')
  or try('WRONGTYPE', 'XREVRANGE', feed, '+', '-', 'COUNT', 1)
  or try('greater than 0-0', 'XADD', feed, '0-0', 'p', '0-0')
  or kind.ok == 'stream' and try('WRONGTYPE', 'HSET', feed, 'v', '')
  or try(wrong, 'HMGET', entry, 'v')
  or try(wrong, 'HGET', entry, 'v')
  or try(wrong, 'HGETALL', entry)
  or try(wrong, 'HLEN', entry)
  or try(wrong, 'HDEL', entry, 'v')
  or try(nil, 'PTTL', entry)
  or KEYS[2] and try(nil, 'PEXPIREAT', entry, 1)
  or KEYS[2] and try(nil, 'PEXPIRE', entry, 1)
  or KEYS[2] and try(nil, 'DEL', entry)
  or {}
