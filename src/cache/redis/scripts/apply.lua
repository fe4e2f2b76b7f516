-- Changes take effect, all changes of one user together: floors rise, what is held moves forward or may not be shown any more,
-- leases are revoked, and one entry of the feed announces it. KEYS: the feed, if the mode is "feed"; then the entry of each user.
-- ARGV: layout version, epoch, floor TTL in ms, mode; then for each user: user, number of changes, and for each change: asset or
-- "*", seq or "", rest of the balance or "". Modes: "feed"; "apart" (a cluster: the feed is in another slot, and the caller
-- announces); "observed" (what a reader found in the ledger: no floor and no news, and only what is held moves).
-- Returns a number for each change: 1 if nothing was news, and 2 more if the caller has to announce it. An error: nothing was done,
-- or the feed tells of changes that the sender will repeat.
local version, epoch, floor_ttl, mode = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local observed, feed = mode == 'observed', mode == 'feed' and KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = string.format('%d', now + floor_ttl)

local done, news = {}, {}

-- The effect of one user's changes, ARGV from `first` to `last`, on the entry. Nothing is written yet.
local function plan(entry, user, first, last)
  local names, place = {'v', 'lease'}, {}
  for arg = first, last, 3 do
    local asset = ARGV[arg]
    if not place[asset] then
      place[asset] = #names + 1
      names[#names + 1], names[#names + 2] = 'f:' .. asset, 'b:' .. asset
    end
  end
  local held = values_of(entry, names)
  if held.err and not is_error(held, 'WRONGTYPE') then
    return held
  end
  local held_version, held_epoch, ends, whole = header(held[1])
  local foreign = held_version ~= version
  if foreign then
    held, held_epoch = {}, false
  end
  if held_epoch ~= epoch then
    ends, whole = '0', false
  end

  -- Fields by their place among the names, as they become; the seqs that came without a balance; what is announced.
  local fresh, set, bare, told_now = {}, {}, {}, {}
  for arg = first, last, 3 do
    local asset, seq, rest = ARGV[arg], ARGV[arg + 1], ARGV[arg + 2]
    local at = place[asset]
    local balance_seq = seq_of(fresh[at + 1] or held[at + 1])
    local old, announce = 0, true
    if observed then
      old, announce = 1, false
      if whole and takes_place(balance_seq, seq, true) then
        old = below(balance_seq, seq) and 0 or 1
        fresh[at + 1] = seq .. ' ' .. rest
      end
    elseif seq == '' then
      whole = false
      if not fresh['d:' .. asset] then
        fresh['d:' .. asset], set[#set + 1], set[#set + 2] = true, 'd:' .. asset, expires
      end
    else
      -- A floor that has ended is none; what was told is still known.
      local floor_seq, told, floor_until = floor_of(fresh[at] or held[at])
      if tonumber(floor_until) <= now then
        floor_seq = ''
      end
      if not below(floor_seq, seq) or not below(balance_seq, seq) then
        old = 1
      end
      if rest == '' then
        bare[#bare + 1] = arg
      elseif takes_place(balance_seq, seq, false) then
        fresh[at + 1] = seq .. ' ' .. rest
      end
      -- A higher seq that was told counts as long as its floor lives: one that was a mistake must not silence what is real.
      announce = told ~= seq and not (below(seq, told) and not below(floor_seq, told))
      if not below(seq, floor_seq) then
        floor_seq, floor_until = seq, expires
      end
      if announce and feed then
        told = seq
      end
      fresh[at] = floor_text(floor_seq, told, floor_until)
    end
    if announce then
      told_now[#told_now + 1] = asset .. ' ' .. seq .. ' ' .. rest
    end
    done[#done + 1] = announce and not feed and old + 2 or old
  end
  for i = 1, #bare do
    local at = place[ARGV[bare[i]]]
    if below(seq_of(fresh[at + 1] or held[at + 1]), ARGV[bare[i] + 1]) then
      whole = false
    end
  end

  for at = 3, #names do
    if fresh[at] and fresh[at] ~= held[at] then
      set[#set + 1], set[#set + 2] = names[at], fresh[at]
    end
  end
  local v = header_text(version, epoch, ends, whole)
  if v ~= held[1] and not observed then
    set[#set + 1], set[#set + 2] = 'v', v
  end
  if feed and #told_now > 0 then
    -- One value for each change; several in one where there would be too many.
    local run = math.ceil(#told_now / RUN)
    for at = 1, #told_now, run do
      local some = table.concat(told_now, ',', at, math.min(at + run - 1, #told_now))
      news[#news + 1], news[#news + 2] = 'c', user .. ' ' .. some
    end
  end
  return {entry = entry, set = set, foreign = foreign, leased = held[2]}
end

local plans, arg = {}, 5
for at = feed and 2 or 1, #KEYS do
  local user, count = ARGV[arg], tonumber(ARGV[arg + 1])
  local made = plan(KEYS[at], user, arg + 2, arg + 1 + 3 * count)
  if made.err then
    return made
  end
  plans[#plans + 1] = made
  arg = arg + 2 + 3 * count
end
-- The feed first: if it cannot be written, nothing has happened, and the repeated notification does it all.
if #news > 0 then
  local added = append(feed, unpack(news))
  if type(added) == 'table' then
    return added
  end
end
for _, made in ipairs(plans) do
  if #made.set > 0 then
    local failed = write(made.entry, made.set, made.foreign)
    if failed then
      return failed
    end
  end
  if not observed then
    if made.leased then
      redis.call('HDEL', made.entry, 'lease')
    end
    if redis.call('PTTL', made.entry) < floor_ttl then
      redis.call('PEXPIREAT', made.entry, expires)
    end
  end
end
return done
