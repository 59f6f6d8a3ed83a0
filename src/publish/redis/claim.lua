-- Takes a bucket, or takes it again.
-- KEYS: the guard. ARGV: run, claim held (0: take it from whoever has it), what the guard is to say after claim and run.
-- Answers with {claim, guard before} or, if somebody else took it since, {-1, guard}.
local guard = redis.call('GET', KEYS[1])
local claim, run = tonumber(ARGV[2]), nil
if guard then
  local theirs
  theirs, run = string.match(guard, '^(%d+):([^:]*):')
  theirs = tonumber(theirs)
  if claim == 0 then
    claim = theirs + 1
  elseif theirs > claim or (theirs == claim and run ~= ARGV[1]) then
    return {-1, guard}
  end
elseif claim == 0 then
  claim = 1
end
redis.call('SET', KEYS[1], claim .. ':' .. ARGV[1] .. ':' .. ARGV[3])
return {claim, guard or ''}
