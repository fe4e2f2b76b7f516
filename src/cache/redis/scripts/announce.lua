-- News goes out, in a cluster, where the feed and the user's entry live apart. KEYS: the feed. ARGV: fields and values.
return append(KEYS[1], unpack(ARGV))
