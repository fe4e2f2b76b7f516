-- How a user's entry is read and written; this stands before the scripts that do so. Its field "v" says layout version, epoch,
-- end of the snapshot in ms (0: there is none), and "1" if the balances are all there are.
local function header(v)
  local version, epoch, ends, whole = string.match(v or '', '^(%S+) (%S+) (%d+) ([01])$')
  return version, epoch, ends or '0', whole == '1'
end

local function header_text(version, epoch, ends, whole)
  return version .. ' ' .. epoch .. ' ' .. ends .. ' ' .. (whole and '1' or '0')
end

-- The seq that a value begins with; less than any if there is none.
local function seq_of(value)
  return value and string.match(value, '^%d+') or ''
end

-- Seqs are compared as digits: Lua's numbers are doubles.
local function below(one, other)
  return #one < #other or #one == #other and one < other
end

-- The merge rule, as `takes_place` in `domain/balance.rs` has it: the higher seq takes the place of what is held; at equal seq the
-- ledger's word does, and a notification's does not.
local function takes_place(held, seq, ledger)
  return below(held, seq) or (ledger and held == seq)
end

-- A floor: its seq, the seq that was announced last (0: none was), its end in ms.
local function floor_of(f)
  local seq, told, ends = string.match(f or '', '^(%d+) (%d+) (%d+)$')
  return seq or '', told or '0', ends or '0'
end

local function floor_text(seq, told, ends)
  return seq .. ' ' .. told .. ' ' .. ends
end

-- A reply is an error of that kind.
local function is_error(reply, kind)
  return type(reply) == 'table' and reply.err and string.find(reply.err, kind, 1, true)
end

-- Lua's stack takes some thousand values at once, so long lists go in runs of so many.
local RUN = 1000

-- The values of these fields, false where there is none; or an error.
local function values_of(entry, names)
  if #names <= RUN then
    return redis.pcall('HMGET', entry, unpack(names))
  end
  local all = {}
  for at = 1, #names, RUN do
    local some = redis.pcall('HMGET', entry, unpack(names, at, math.min(at + RUN - 1, #names)))
    if some.err then
      return some
    end
    for i = 1, #some do
      all[at + i - 1] = some[i]
    end
  end
  return all
end

-- Writes fields and their values; where what stands there is not ours, nothing of it stays. Redis refuses the first command of a
-- script for lack of memory, and none behind a deletion: so the deletion comes second. Returns an error, or nothing.
local function write(entry, set, foreign)
  local function put()
    for at = 1, #set, RUN do
      local wrote = redis.pcall('HSET', entry, unpack(set, at, math.min(at + RUN - 1, #set)))
      if type(wrote) == 'table' then
        return wrote
      end
    end
  end
  local failed = put()
  if foreign and (is_error(failed, 'WRONGTYPE') or not failed and redis.call('HLEN', entry) > #set / 2) then
    redis.call('DEL', entry)
    return put()
  end
  return failed
end
