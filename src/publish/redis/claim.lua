-- Takes a bucket, or takes it again.
-- KEYS: the guard. ARGV: run, claim held (0: take it from whoever has it), what the guard is to say after claim and run
-- ('': the as-of that it says now), the highest claim that is known to have been given; if there is one, a guard that is missing was lost.
-- Answers with {claim, guard before, guard now} or, if somebody else took it since, {-1, guard}.
local guard = redis.call('GET', KEYS[1])
local claim, rest = tonumber(ARGV[2]), ARGV[3]
local theirs, run, as_of
if guard then theirs, run, as_of = string.match(guard, '^(%d+):([^:]*):%d+:(.*)$') end
theirs = tonumber(theirs) or 0
if claim == 0 then
  claim = math.max(theirs, tonumber(ARGV[4])) + 1
elseif theirs > claim or (theirs == claim and run ~= ARGV[1]) then
  return {-1, guard}
end
-- What a bucket holds does not change by being taken: a run that dies right after this has not hidden how far it was.
if rest == '' then rest = '0:' .. (as_of or (tonumber(ARGV[4]) > 0 and 'rebuilding' or '0')) end
local now = claim .. ':' .. ARGV[1] .. ':' .. rest
redis.call('SET', KEYS[1], now)
return {claim, guard or '', now}
