-- Holds the places of sessions that live for some time more, whatever the maxima are.
--
-- KEYS: of each session the names of its scopes, and the scopes.
-- ARGV: how long a place is held in milliseconds, then of each session its id and how many scopes it has.
local clock = redis.call('TIME')
local lasts = tonumber(ARGV[1])
local ends = clock[1] * 1000 + math.floor(clock[2] / 1000) + lasts
local names = 1
for i = 2, #ARGV, 2 do
  local session, scopes = ARGV[i], tonumber(ARGV[i + 1])
  for at = names + 1, names + scopes do
    redis.call('ZADD', KEYS[at], ends, session)
    redis.call('PEXPIRE', KEYS[at], lasts)
    redis.call('SADD', KEYS[names], KEYS[at])
  end
  redis.call('PEXPIRE', KEYS[names], lasts)
  names = names + 1 + scopes
end
return names - 1
