-- A place in time for one call to a provider. KEYS[1]: when the next call may be made; KEYS[2]: set while the provider
-- rests. ARGV: the interval between calls (µs; 0: none), how many may be made at once, the furthest place to give (µs).
-- Returns how long to wait (µs), or -1 - that when it is too far: then no place is taken.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst, furthest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local rest = redis.call('PTTL', KEYS[2])
local from = now
if rest > 0 then
  from = now + rest * 1000
end
local place = from
local following = 0
if interval > 0 then
  following = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), from)
  place = math.max(from, following - interval * (burst - 1))
end
local wait = place - now
if wait > furthest then
  return -1 - wait
end
if interval > 0 then
  local ahead = following + interval - now
  redis.call('SET', KEYS[1], string.format('%d', following + interval), 'PX', math.ceil(ahead / 1000) + 1000)
end
return wait
