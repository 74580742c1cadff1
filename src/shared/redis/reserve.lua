-- Takes a place for a session in every scope, and counts its start by every rate; or says what it lacks.
--
-- KEYS: the names of the session's scopes, the scopes (sorted sets of sessions by when they expire), the rates (when each is
-- whole again, in microseconds).
-- ARGV: the session, how long a place is held in milliseconds, how many scopes, the maximum of each (-1 is none), then of
-- each rate the time from one event to the next in microseconds, and the burst.
-- Answers: 0; or 1, the place of the rate and the wait in microseconds; or 2 and the place of the scope. A rate before the
-- one that refuses has counted the start, and so have all where a scope refuses.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local millis = math.floor(now / 1000)
local session, lasts, scopes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

for i = 1, #KEYS - 1 - scopes do
  local key = KEYS[1 + scopes + i]
  local period, burst = tonumber(ARGV[2 + scopes + 2 * i]), tonumber(ARGV[3 + scopes + 2 * i])
  local whole = tonumber(redis.call('GET', key) or now) or now
  -- What another rate has left is no more than this one ever leaves.
  whole = math.min(whole, now + period * burst)
  local earliest = whole - period * (burst - 1)
  if now < earliest then
    return { 1, i - 1, math.ceil(earliest - now) }
  end
  local next = math.max(whole, now) + period
  redis.call('SET', key, string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000) + 1)
end

for i = 1, scopes do
  local key, max = KEYS[1 + i], tonumber(ARGV[3 + i])
  redis.call('ZREMRANGEBYSCORE', key, '-inf', millis)
  if max >= 0 and redis.call('ZCARD', key) >= max and not redis.call('ZSCORE', key, session) then
    return { 2, i - 1 }
  end
end
for i = 1, scopes do
  redis.call('ZADD', KEYS[1 + i], millis + lasts, session)
  redis.call('PEXPIRE', KEYS[1 + i], lasts)
  redis.call('SADD', KEYS[1], KEYS[1 + i])
end
redis.call('PEXPIRE', KEYS[1], lasts)
return { 0 }
