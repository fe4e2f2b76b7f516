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

-- A floor: its seq, the seq that was announced last (0: none was), its end in ms.
local function floor_of(f)
  local seq, told, ends = string.match(f or '', '^(%d+) (%d+) (%d+)$')
  return seq or '', told or '0', ends or '0'
end

local function floor_text(seq, told, ends)
  return seq .. ' ' .. told .. ' ' .. ends
end

