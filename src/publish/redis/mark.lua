-- Moves the marker of a generation. KEYS: the marker. ARGV: run, first (1: take the marker), fields and values.
-- Answers 1, or who else has it.
local run = redis.call('HGET', KEYS[1], 'run')
if run and run ~= ARGV[1] and ARGV[2] == '0' then return run end
redis.call('HSET', KEYS[1], 'run', ARGV[1], unpack(ARGV, 3))
return 1
