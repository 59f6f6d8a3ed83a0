-- Moves the pointer of a job. KEYS: the pointer. ARGV: generation expected ('' for none), new generation, format.
local now = redis.call('HGET', KEYS[1], 'generation') or ''
if now ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'format', ARGV[3])
return 1
