-- Holds the places of sessions that live for some time more, whatever the maxima are.
-- One that is not held any more stays so, for the session may be over, unless all places may have been lost.
--
-- KEYS: of each session the names of its scopes, and the scopes.
-- ARGV: how long a place is held in milliseconds, whether all may have been lost (1 or 0), then of each session its id and how many scopes it has.
local clock = redis.call('TIME')
local lasts = tonumber(ARGV[1])
local ends = clock[1] * 1000 + math.floor(clock[2] / 1000) + lasts
local names = 1
for i = 3, #ARGV, 2 do
  local session, scopes = ARGV[i], tonumber(ARGV[i + 1])
  if ARGV[2] == '1' or redis.call('EXISTS', KEYS[names]) == 1 then
    for at = names + 1, names + scopes do
      redis.call('ZADD', KEYS[at], ends, session)
      redis.call('PEXPIRE', KEYS[at], lasts)
      redis.call('SADD', KEYS[names], KEYS[at])
    end
    redis.call('PEXPIRE', KEYS[names], lasts)
  end
  names = names + 1 + scopes
end
return names - 1
