-- Take a head if it is newer than what is known, and publish that. KEYS[1]: the head; ARGV: revision, ticket ('' for none),
-- head, how many ms it is kept, channel ('' for none), message.
-- 1: taken. 0: as much is known. -1: what was known is lost since the ticket; read Postgres again. -2: no memory.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local known = redis.call('HMGET', KEYS[1], 'run', 'rev', 'ticket')
local counts = known[1] == run
if counts and known[2] then
  if tonumber(known[2]) >= tonumber(ARGV[1]) then
    return 0
  end
elseif not (counts and known[3] == ARGV[2]) then
  return -1
end
local outcome = 1
local taken = redis.pcall('HSET', KEYS[1], 'run', run, 'rev', ARGV[1], 'body', ARGV[3])
if type(taken) == 'table' and taken.err then
  redis.call('DEL', KEYS[1]) -- rather nothing than something old
  outcome = -2
else
  redis.call('HDEL', KEYS[1], 'ticket')
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return outcome
