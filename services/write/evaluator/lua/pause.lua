-- Pauses all calls of a provider, for as long as it is paused already at least. KEYS[1]: set while it is paused;
-- ARGV[1]: how long (ms).
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
end
return 0
