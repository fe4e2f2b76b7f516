-- Removes a consumer of a group that has nothing pending: entries that are pending would be lost with it. KEYS: the stream. ARGV:
-- group, consumer. Returns whether it was removed.
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for at = 1, #fields, 2 do
    consumer[fields[at]] = fields[at + 1]
  end
  if consumer.name == ARGV[2] and consumer.pending == 0 then
    local removed = redis.pcall('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    if type(removed) == 'table' and removed.err then
      -- Redis does not name a command that a script may not run.
      local named = "'XGROUP|DELCONSUMER': the user executing the script may not"
      return {err = (string.gsub(removed.err, "The user executing the script can't", named))}
    end
    return 1
  end
end
return 0
