-- Counts events that have happened already, as many as their rates allow, and says how long until the next is allowed.
--
-- KEYS: the rates (when each is whole again, in microseconds).
-- ARGV: of each the time from one event to the next in microseconds, the burst, and how many events there were.
-- Answers: of each the wait in microseconds, 0 where one more is allowed now.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local waits = {}
for i, key in ipairs(KEYS) do
  local period, burst, events = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local whole = tonumber(redis.call('GET', key) or now) or now
  whole = math.max(math.min(whole, now + period * burst), now)
  local allowed = math.floor((now + period * (burst - 1) - whole) / period) + 1
  whole = whole + period * math.max(math.min(events, allowed), 0)
  if whole > now then
    redis.call('SET', key, string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000) + 1)
  end
  waits[i] = math.max(math.ceil(whole - period * (burst - 1) - now), 0)
end
return waits
