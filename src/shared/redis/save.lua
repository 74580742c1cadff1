-- KEYS: session, gone, sessions. ARGV: id, state, replica, part, ttl in ms, whether it is new, and how others may have taken
-- it to be over though it lives here: words between blanks.
local answer = 1
if ARGV[6] == '1' then
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'state', ARGV[2])
else
  local gone = redis.call('GET', KEYS[2])
  if gone and not string.find(ARGV[7], ' ' .. gone .. ' ', 1, true) then
    return 0
  elseif gone then
    redis.call('DEL', KEYS[2])
    answer = 2
  end
end
redis.call('HSETNX', KEYS[1], 'state', ARGV[2])
redis.call('HSET', KEYS[1], 'part:' .. ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local now = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now[1])
redis.call('ZADD', KEYS[3], now[1] + math.ceil(ARGV[5] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return answer
