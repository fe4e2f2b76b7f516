-- Puts an entry at the end of the feed, behind the id of the entry before it. This stands before the scripts that announce
-- something. A key that is no stream, and a stream whose ids have come to their end, is replaced: a break in the chain for every
-- follower. Whatever else is wrong (no memory, no right) deletes nothing. Returns the id, or an error.
local function append(feed, ...)
  local last = redis.pcall('XREVRANGE', feed, '+', '-', 'COUNT', 1)
  local no_stream = last.err and string.find(last.err, 'WRONGTYPE', 1, true)
  if last.err and not no_stream then
    return last
  end
  -- Before any deletion: behind one, Redis would no longer refuse it for lack of memory.
  local added = redis.pcall('XADD', feed, '*', 'p', last[1] and last[1][1] or '0-0', ...)
  if type(added) == 'table' and (no_stream and string.find(added.err, 'WRONGTYPE', 1, true)
      or string.find(added.err, 'exhausted', 1, true)) then
    redis.call('DEL', feed)
    added = redis.pcall('XADD', feed, '*', 'p', '0-0', ...)
  end
  return added
end

