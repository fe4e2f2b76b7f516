-- A load's result becomes the snapshot. KEYS: the user's entry.
-- ARGV: layout version, epoch, token, snapshot TTL in ms, "1" if the ledger was read, then asset, seq, rest … of every balance.
-- Returns {"ok", now} or {reason, now}: "lease" (revoked, taken or expired with the key), "epoch", "floor" (below one, or read
-- from the view where the ledger was asked for), "incomplete" (an asset with a floor is missing).
local entry, version, epoch, token = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local ttl, ledger = tonumber(ARGV[4]), ARGV[5] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local all = redis.pcall('HGETALL', entry)
if all.err and not is_error(all, 'WRONGTYPE') then
  return all
end
local held = {}
for at = 1, all.err and 0 or #all, 2 do
  held[all[at]] = all[at + 1]
end
local held_version, held_epoch = header(held.v)
if held_version ~= version or not held.lease or string.match(held.lease, '^(%S+) ') ~= token then
  return {'lease', now}
end
if held_epoch ~= epoch then
  return {'epoch', now}
end

local fields = {'v', header_text(version, epoch, string.format('%d', now + ttl), true)}
local seqs = {}
for field, value in pairs(held) do
  if string.sub(field, 1, 2) == 'b:' then
    seqs[string.sub(field, 3)] = seq_of(value)
  end
end
for at = 6, #ARGV, 3 do
  local asset, seq = ARGV[at], ARGV[at + 1]
  if takes_place(seqs[asset] or '', seq, true) then
    seqs[asset] = seq
    fields[#fields + 1] = 'b:' .. asset
    fields[#fields + 1] = seq .. ' ' .. ARGV[at + 2]
  end
end

local over = {'lease'}
local expires = now + ttl
for field, value in pairs(held) do
  local kind, asset = string.match(field, '^([fd]):(.+)$')
  if kind then
    local until_ms = tonumber(string.match(value, '(%d+)$')) or 0
    if until_ms <= now then
      over[#over + 1] = field
    elseif kind == 'd' and not ledger then
      return {'floor', now}
    elseif kind == 'f' and not seqs[asset] then
      return {'incomplete', now}
    elseif kind == 'f' and below(seqs[asset], seq_of(value)) then
      return {'floor', now}
    end
    expires = math.max(expires, until_ms)
  end
end

local failed = write(entry, fields, false)
if failed then
  return failed
end
for at = 1, #over, RUN do
  redis.call('HDEL', entry, unpack(over, at, math.min(at + RUN - 1, #over)))
end
redis.call('PEXPIREAT', entry, string.format('%d', expires))
return {'ok', now}
