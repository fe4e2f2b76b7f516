-- Notifications take effect, in their order: floors rise, what is held moves forward or may not be shown any more, leases are
-- revoked, the news goes out in one entry of the feed. KEYS: the feed, where one script may touch all of them (not in a cluster);
-- then the user's entry of each notification.
-- ARGV: layout version, epoch, floor TTL in ms, "1" if the values came from a reader's own look at the ledger: no floor, no news,
-- only what is held moves; then for each: user, asset or "*", seq or "", rest of the balance or "".
-- Returns a number for each: 1 if nothing was news, and 2 more if it has to go out and did not go out here.
local version, epoch, floor_ttl, observed = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local count = (#ARGV - 4) / 4
local feed = #KEYS > count and KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%d', now + floor_ttl)

-- What goes out, as fields and values, and the floors that remember that it did, as they are if it does not: entry, field, value.
local news, untold = {}, {}

local function apply(entry, user, asset, seq, rest)
  local held = redis.pcall('HMGET', entry, 'v', 'lease', 'f:' .. asset, 'b:' .. asset)
  local held_version, held_epoch, ends, whole = header(held[1])
  if held.err or held_version ~= version then
    redis.call('DEL', entry)
    held, held_epoch = {}, false
  end
  if held_epoch ~= epoch then
    ends, whole = '0', false
  end
  local balance_seq = seq_of(held[4])
  if observed then
    if whole and below(balance_seq, seq) then
      redis.call('HSET', entry, 'b:' .. asset, seq .. ' ' .. rest)
      return 0
    end
    return 1
  end
  -- A floor that has ended is none; what was told is still known.
  local floor_seq, told, floor_until = floor_of(held[3])
  if tonumber(floor_until) <= now then
    floor_seq = ''
  end

  local set = {}
  local old, announce = 0, true
  if seq == '' then
    whole = false
    set[#set + 1], set[#set + 2] = 'd:' .. asset, expires
  else
    if not below(floor_seq, seq) or not below(balance_seq, seq) then
      old = 1
    end
    if below(balance_seq, seq) then
      if rest ~= '' then
        set[#set + 1], set[#set + 2] = 'b:' .. asset, seq .. ' ' .. rest
      else
        whole = false
      end
    end
    -- A higher seq that was told counts as long as its floor lives: one that was a mistake must not silence what is real.
    announce = told ~= seq and not (below(seq, told) and not below(floor_seq, told))
    if not below(seq, floor_seq) then
      floor_seq, floor_until = seq, expires
    end
    if announce and feed then
      untold[#untold + 1] = {entry, 'f:' .. asset, floor_text(floor_seq, '0', floor_until)}
      told = seq
    end
    local floor = floor_text(floor_seq, told, floor_until)
    if floor ~= held[3] then
      set[#set + 1], set[#set + 2] = 'f:' .. asset, floor
    end
  end
  local v = header_text(version, epoch, ends, whole)
  if v ~= held[1] then
    set[#set + 1], set[#set + 2] = 'v', v
  end
  if held[2] then
    redis.call('HDEL', entry, 'lease')
  end
  if #set > 0 then
    redis.call('HSET', entry, unpack(set))
  end
  if redis.call('PTTL', entry) < floor_ttl then
    redis.call('PEXPIREAT', entry, expires)
  end
  if announce and feed then
    news[#news + 1], news[#news + 2] = 'c', user .. ' ' .. asset .. ' ' .. seq .. ' ' .. rest
  end
  return announce and not feed and old + 2 or old
end

local done = {}
for at = 1, count do
  local arg = 4 * at
  local entry = KEYS[feed and at + 1 or at]
  done[at] = apply(entry, ARGV[arg + 1], ARGV[arg + 2], ARGV[arg + 3], ARGV[arg + 4])
end
if #news > 0 then
  local added = {pcall(append, feed, unpack(news))}
  if not added[1] then
    -- Nobody was told: the repeated notification has to tell it.
    for _, floor in ipairs(untold) do
      redis.call('HSET', unpack(floor))
    end
    return redis.error_reply('ERR the feed cannot be written')
  end
end
return done
