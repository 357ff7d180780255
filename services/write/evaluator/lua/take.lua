-- Takes the next call of a provider from its token bucket. KEYS[1]: when the next call may be made; KEYS[2]: set while
-- the provider is paused. ARGV: the interval between calls (µs; 0: none), how many may be made at once, the longest wait
-- to give (µs). Returns how long to wait (µs), or -1 - that when it is too long: then no call is taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rest = redis.call('PTTL', KEYS[2])
local from = now
if rest > 0 then
  from = now + rest * 1000
end
local call_at = from
local following = 0
if interval > 0 then
  following = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), from)
  call_at = math.max(from, following - interval * (burst - 1))
end
local wait = call_at - now
if wait > longest then
  return -1 - wait
end
if interval > 0 then
  local ahead = following + interval - now
  redis.call('SET', KEYS[1], string.format('%d', following + interval), 'PX', math.ceil(ahead / 1000) + 1000)
end
return wait
