-- A miss asks for the right to fill. KEYS: the user's entry.
-- ARGV: layout version, epoch, token, lease in ms, "1" to take the lease from whoever has it and to ignore what is held, "2" to
-- replace what is held, because it cannot be read.
-- Returns {what, now, {field, value, …}}: "hit" (whole and good: it was filled meanwhile), "busy" (another has the lease),
-- "lease" (ours now; the fields are what is known), "absent" (ours now; there was no key at all, so no fields), "foreign" (ours
-- now; what stood there was not ours and is gone, so no fields). Times are ms of this Redis' clock.
local entry, version, epoch, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local lease_ms, force, unreadable = tonumber(ARGV[4]), ARGV[5] == '1', ARGV[5] == '2'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local what, ends, whole = 'lease', '0', false

local kind = redis.call('TYPE', entry).ok
local held = kind == 'hash' and redis.call('HMGET', entry, 'v', 'lease') or {}
local held_version, held_epoch, held_ends, held_whole = header(held[1])
if kind == 'none' then
  what = 'absent'
elseif unreadable or held_version ~= version then
  what = 'foreign'
elseif held_epoch == epoch then
  ends, whole = held_ends, held_whole
  if not force then
    if whole and tonumber(ends) > now then
      return {'hit', now, redis.call('HGETALL', entry)}
    end
    local expires = held[2] and tonumber(string.match(held[2], ' (%d+)$'))
    if expires and expires > now then
      return {'busy', now, {}}
    end
  end
end

local leased = {'v', header_text(version, epoch, ends, whole), 'lease', token .. ' ' .. string.format('%d', now + lease_ms)}
local failed = write(entry, leased, what == 'foreign')
if failed then
  return failed
end
if what ~= 'lease' then
  redis.call('PEXPIRE', entry, lease_ms)
  return {what, now, {}}
end
if redis.call('PTTL', entry) < lease_ms then
  redis.call('PEXPIRE', entry, lease_ms)
end
return {what, now, redis.call('HGETALL', entry)}
