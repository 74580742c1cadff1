-- KEYS: session, sessions. ARGV: id, replica, part, ttl in ms.
if redis.call('HEXISTS', KEYS[1], 'state') == 0 then
  return 0
end
redis.call('HSET', KEYS[1], 'part:' .. ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local now = redis.call('TIME')
redis.call('ZADD', KEYS[2], now[1] + math.ceil(ARGV[4] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
