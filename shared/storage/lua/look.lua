-- What this server knows of a prompt: {revision, head}, or {false, ticket}: fill it. KEYS[1]: the head; ARGV: a new
-- ticket, and how many ms it holds.
-- What another run of the server wrote does not count: a restart, or a replica's promotion, may have lost what came later.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('HMGET', KEYS[1], 'run', 'rev', 'body', 'ticket')
if known[1] == run then
  if known[2] then
    return {known[2], known[3]}
  end
  return {false, known[4]}
end
if known[1] then
  redis.call('DEL', KEYS[1])
end
local placed = redis.pcall('HSET', KEYS[1], 'run', run, 'ticket', ARGV[1])
if type(placed) == 'table' and placed.err then -- no memory: nothing can be filled
  return {false, ''}
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {false, ARGV[1]}
