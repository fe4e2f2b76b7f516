-- Puts an entry at the end of the feed, behind the id of the entry before it; what is there and no stream is replaced. This
-- stands before the scripts that tell something. Returns the id.
local function append(feed, ...)
  local last = redis.pcall('XREVRANGE', feed, '+', '-', 'COUNT', 1)
  local added = last.err and last or redis.pcall('XADD', feed, '*', 'p', last[1] and last[1][1] or '0-0', ...)
  if type(added) == 'table' then
    -- No stream, or one whose ids have come to their end: the new one is a break in the chain for everybody.
    redis.call('DEL', feed)
    added = redis.call('XADD', feed, '*', 'p', '0-0', ...)
  end
  return added
end

