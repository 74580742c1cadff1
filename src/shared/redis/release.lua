-- Gives the places of sessions back.
--
-- KEYS: of each session the names of its scopes. ARGV: the sessions.
for i, names in ipairs(KEYS) do
  for _, scope in ipairs(redis.call('SMEMBERS', names)) do
    redis.call('ZREM', scope, ARGV[i])
  end
  redis.call('DEL', names)
end
return #KEYS
