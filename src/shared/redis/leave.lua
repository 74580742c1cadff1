-- Gives the shares of caps back that this replica no longer needs.
--
-- KEYS: of each cap what each replica tells. ARGV: the replica.
for _, key in ipairs(KEYS) do
  redis.call('HDEL', key, ARGV[1])
end
return #KEYS
