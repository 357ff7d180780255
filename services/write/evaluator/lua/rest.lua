-- Nobody calls the provider for a while, or for as long as it rests already. KEYS[1]: the rest; ARGV[1]: ms.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then
  redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
end
return 0
