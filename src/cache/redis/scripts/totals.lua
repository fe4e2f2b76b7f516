-- The state of the totals: the scan under way, and the totals that were published last. KEYS: the state.
-- ARGV: what to do, a token of the instance, then
--   lease:   how long the right to scan lasts in ms, "1" if a scan is due whatever the clock says
--   renew:   fence, how long in ms
--   publish: fence, in how many ms the next scan is due, began, ended, assets separated by commas
--   release: fence, in how many ms the next scan is due
-- A fence is higher than all before it, also after Redis forgot them: it is at least the time.
-- Returns {what, ms until it is worth asking again, fence of the lease or 0, fence of what is published or 0}; what is "taken",
-- "busy" (another instance scans), "early" (no scan is due), "ok", or "lost" (the right to scan went to another instance).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then
  redis.call('DEL', key)
end
local held = redis.call('HMGET', key, 'token', 'fence', 'until', 'next', 'published')
local token, fence, ends = held[1], tonumber(held[2]) or 0, tonumber(held[3]) or 0
local due, published = tonumber(held[4]) or 0, tonumber(held[5]) or 0
local function answer(what, wait, of)
  return {what, string.format('%d', math.max(wait, 0)), string.format('%d', of), string.format('%d', published)}
end
local function text(number)
  return string.format('%d', number)
end

if ARGV[1] == 'lease' then
  if token and ends > now then
    return answer('busy', ends - now, 0)
  end
  if due > now and ARGV[4] ~= '1' then
    return answer('early', due - now, 0)
  end
  local new = math.max(fence + 1, now)
  redis.call('HSET', key, 'token', ARGV[2], 'fence', text(new), 'until', text(now + tonumber(ARGV[3])))
  return answer('taken', 0, new)
end

local ours = tonumber(ARGV[3])
if token ~= ARGV[2] or fence ~= ours then
  return answer('lost', 0, 0)
end
if ARGV[1] == 'renew' then
  redis.call('HSET', key, 'until', text(now + tonumber(ARGV[4])))
  return answer('ok', 0, ours)
end
redis.call('HDEL', key, 'token', 'until')
redis.call('HSET', key, 'next', text(now + tonumber(ARGV[4])))
if ARGV[1] == 'publish' then
  published = ours
  redis.call('HSET', key, 'published', text(ours), 'began', ARGV[5], 'ended', ARGV[6], 'assets', ARGV[7])
end
return answer('ok', 0, ours)
