-- KEYS: session, gone, sessions. ARGV: id, how long it is remembered in ms, how it ended.
local known = redis.call('HGETALL', KEYS[1])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
local first = redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2], 'NX')
return {first and '1' or '0', unpack(known)}
