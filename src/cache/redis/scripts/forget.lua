-- Floors that were told again, because this Redis had lost them, are forgotten. A newer floor of the user stays with its balance,
-- and the feed tells it again behind that. KEYS: the user's entry; and the feed, where one script may touch both.
-- ARGV: layout version, user, then asset and seq of every floor that was told.
-- Returns the changes that stay, as the feed tells them: "asset seq rest" with a comma between, "" if there is none.
local entry, feed = KEYS[1], KEYS[2]
local version, user = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local told = {}
for at = 3, #ARGV, 2 do
  told[ARGV[at]] = ARGV[at + 1]
end

local all = redis.call('TYPE', entry).ok == 'hash' and redis.call('HGETALL', entry) or {}
local held = {}
for at = 1, #all, 2 do
  held[all[at]] = all[at + 1]
end
local held_version, epoch = header(held.v)
local stays, newer = {}, {}
for field, value in pairs(held_version == version and held or {}) do
  local asset = string.match(field, '^f:(.+)$')
  if asset then
    local seq, _, ends = floor_of(value)
    if tonumber(ends) > now and (not told[asset] or below(told[asset], seq)) then
      local balance = held['b:' .. asset]
      local rest = seq_of(balance) == seq and string.match(balance, '^%d+ (.*)$') or ''
      newer[#newer + 1] = asset .. ' ' .. seq .. ' ' .. rest
      stays[field], stays['b:' .. asset] = true, rest ~= ''
    end
  elseif string.sub(field, 1, 2) == 'd:' then
    stays[field] = true
  end
end

-- The feed first: if it cannot be written, nothing has happened.
local news = table.concat(newer, ',')
if feed then
  local again = news ~= '' and {'c', user .. ' ' .. news} or {}
  local added = append(feed, 'x', user, unpack(again))
  if type(added) == 'table' then
    return added
  end
end
if news == '' then
  redis.call('DEL', entry)
  return news
end
redis.call('HSET', entry, 'v', header_text(version, epoch, '0', false))
for field in pairs(held) do
  if field ~= 'v' and not stays[field] then
    redis.call('HDEL', entry, field)
  end
end
return news
