-- Takes a share of each cap, of what the other replicas do not hold.
--
-- KEYS: of each cap what each replica tells.
-- ARGV: the replica, then of each cap the share that is wanted, its rate, and what may be had in any case, in bytes a second.
-- Answers: of each cap what is held from now on.
local replica = ARGV[1]
local answer = {}
for i, key in ipairs(KEYS) do
  local wanted, rate, least = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local all = redis.call('HGETALL', key)
  local expires, rest
  for at = 1, #all, 2 do
    local ends, held, after = string.match(all[at + 1], '^(%d+) (%d+) (.*)$')
    if all[at] == replica then
      expires, rest = ends, after
    else
      rate = rate - (tonumber(held) or 0)
    end
  end
  local share = math.max(math.min(wanted, rate), least)
  if expires then
    redis.call('HSET', key, replica, string.format('%s %.0f %s', expires, share, rest))
  end
  answer[i] = share
end
return answer
