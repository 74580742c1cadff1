-- Gives the places of a session back.
--
-- KEYS: the names of the session's scopes. ARGV: the session.
for _, scope in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  redis.call('ZREM', scope, ARGV[1])
end
return redis.call('DEL', KEYS[1])
