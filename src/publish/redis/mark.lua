-- Moves the marker of a generation. KEYS: the marker. ARGV: run, its claim of bucket 0, fields and values.
-- Answers 1, or who else has it: a run that took bucket 0 later. One that took it earlier cannot take the marker back.
local run, claim = redis.call('HGET', KEYS[1], 'run'), tonumber(redis.call('HGET', KEYS[1], 'claim') or '0')
local mine = tonumber(ARGV[2])
if run and (claim > mine or (claim == mine and run ~= ARGV[1])) then return run end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'claim', ARGV[2], unpack(ARGV, 3))
return 1
