-- Tells what this replica needs of each cap, and hears what all of them do.
--
-- KEYS: of each cap what each replica tells: until when that holds in milliseconds, what it holds, what it needs and its
-- rate, in bytes a second.
-- ARGV: the replica, how long this holds in milliseconds, then of each cap what is needed and the rate.
-- Answers: of each cap how many tell of it, and then each replica followed by what it tells.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local replica, lasts = ARGV[1], tonumber(ARGV[2])
local answer = {}
for i, key in ipairs(KEYS) do
  local held = string.match(redis.call('HGET', key, replica) or '', '^%d+ (%d+) ') or '0'
  local told = string.format('%.0f %s %s %s', now + lasts, held, ARGV[1 + 2 * i], ARGV[2 + 2 * i])
  redis.call('HSET', key, replica, told)
  redis.call('PEXPIRE', key, lasts)
  local all = redis.call('HGETALL', key)
  local count = #answer + 1
  answer[count] = 0
  for at = 1, #all, 2 do
    local expires = tonumber(string.match(all[at + 1], '^%d+') or 0)
    if expires > now then
      answer[count] = answer[count] + 1
      answer[#answer + 1], answer[#answer + 2] = all[at], all[at + 1]
    else
      redis.call('HDEL', key, all[at])
    end
  end
  answer[count] = tostring(answer[count])
end
return answer
