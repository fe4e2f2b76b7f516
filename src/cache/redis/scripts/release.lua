-- A holder of a lease that will not fill gives it back. KEYS: the user's entry. ARGV: token.
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local lease = redis.call('HGET', KEYS[1], 'lease')
  if lease and string.match(lease, '^(%S+) ') == ARGV[1] then
    return redis.call('HDEL', KEYS[1], 'lease')
  end
end
return 0
