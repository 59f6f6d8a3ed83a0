-- Moves buckets of the view, each only if its guard is where the caller left it.
-- KEYS: per bucket its guard, then the keys of its steps.
-- ARGV: per bucket: guard expected ('' for none), next guard, number of keys, number of arguments, arguments of the steps.
-- Answers with the buckets that were left alone: place of the guard in KEYS, and what the guard was.
local call, keys, args = redis.call, KEYS, ARGV
local refused = {}
local k, a = 1, 1

-- The ids of a bucket's stores, and the store, by the bucket's guard (…:guard) and the store's hash (…:s:<store>).
local function id_of(guard, key)
  local bucket = string.sub(guard, 1, -6)
  return bucket .. 'stores', string.sub(key, #bucket + 3)
end

-- A store's hash is there: so is its id.
local function keep_store(guard, key)
  local ids, id = id_of(guard, key)
  call('ZADD', ids, 0, id)
end

-- Takes away a store's hash when neither products nor windows are left, and its id.
local function drop_empty_store(guard, key)
  if call('HEXISTS', key, 'product_count') == 0 and call('HEXISTS', key, 'newest_window') == 0 then
    call('UNLINK', key)
    local ids, id = id_of(guard, key)
    call('ZREM', ids, id)
  end
end

-- Whether a window's hash still has cells, and their highest revision.
local function cells_of(key)
  local all, cells, highest = call('HGETALL', key), false, 0
  for f = 1, #all, 2 do
    local name = all[f]
    if string.sub(name, 1, 9) == 'revision:' then
      highest = math.max(highest, tonumber(all[f + 1]))
    elseif name ~= 'revision' and name ~= 'changed_as_of' then
      cells = true
    end
  end
  return cells, highest
end

while k <= #keys do
  local guard, found = keys[k], call('GET', keys[k]) or ''
  local last_key, last_arg = k + tonumber(args[a + 2]), a + 3 + tonumber(args[a + 3])
  if found ~= args[a] then
    refused[#refused + 1] = k
    refused[#refused + 1] = found
  else
    local next_guard = args[a + 1]
    k, a = k + 1, a + 4
    while k <= last_key do
      local key, step = keys[k], args[a]
      local pairs = tonumber(step)
      if pairs then
        -- <number of arguments>, time to live: the ordinary step. The time to live is given once, when all of it is new.
        -- None of a store's hash, which stays.
        local new = call('HSET', key, unpack(args, a + 2, a + 1 + pairs))
        if args[a + 1] == '' then
          if new > 0 then keep_store(guard, key) end
        elseif new * 2 == pairs then
          call('PEXPIRE', key, args[a + 1])
        end
        a = a + 2 + pairs
      elseif step == 'replace' then
        -- time to live, number of arguments
        local n = tonumber(args[a + 2])
        call('DEL', key)
        call('HSET', key, unpack(args, a + 3, a + 2 + n))
        if args[a + 1] ~= '' then call('PEXPIRE', key, args[a + 1]) end
        a = a + 3 + n
      elseif step == 'remove' then
        call('UNLINK', key)
        a = a + 1
      elseif step == 'mend' then
        -- A window that is closed, or loses cells. Second key: the store's hash. time to live, revision, as-of, window,
        -- length of a window, oldest window, start of the window keys, store, numbers of arguments to set and to delete
        local store = keys[k + 1]
        local ttl, revision, as_of, window = args[a + 1], tonumber(args[a + 2]), args[a + 3], args[a + 4]
        local length, oldest, start, id = tonumber(args[a + 5]), tonumber(args[a + 6]), args[a + 7], args[a + 8]
        local sets, dels = tonumber(args[a + 9]), tonumber(args[a + 10])
        a = a + 11
        if sets > 0 then call('HSET', key, unpack(args, a, a + sets - 1)) end
        if dels > 0 then call('HDEL', key, unpack(args, a + sets, a + sets + dels - 1)) end
        local cells, highest = true, math.max(revision, tonumber(call('HGET', key, 'revision') or '0'))
        if dels > 0 then cells, highest = cells_of(key) end
        if cells then
          call('HSET', key, 'revision', highest, 'changed_as_of', as_of)
          call('PEXPIRE', key, ttl)
        else
          call('UNLINK', key)
          if call('HGET', store, 'newest_window') == window then
            local older, at = nil, tonumber(window) - length
            while at >= oldest and not older do
              local text = string.format('%.0f', at)
              if call('EXISTS', start .. text .. ':' .. id) == 1 then older = text end
              at = at - length
            end
            if older then
              call('HSET', store, 'newest_window', older, 'changed_as_of', as_of)
            else
              call('HDEL', store, 'newest_window')
              drop_empty_store(guard, store)
            end
          end
        end
        a = a + sets + dels
        k = k + 1
      elseif step == 'newest' then
        -- window, as-of
        local now = call('HGET', key, 'newest_window')
        if not now then keep_store(guard, key) end
        if not now or tonumber(now) < tonumber(args[a + 1]) then
          call('HSET', key, 'newest_window', args[a + 1], 'changed_as_of', args[a + 2])
        end
        a = a + 3
      elseif step == 'expire' then
        -- window
        local now = call('HGET', key, 'newest_window')
        if now and tonumber(now) <= tonumber(args[a + 1]) then
          call('HDEL', key, 'newest_window')
          drop_empty_store(guard, key)
        end
        a = a + 2
      elseif step == 'unsell' then
        -- as-of
        if call('HDEL', key, 'product_count') == 1 then
          call('HSET', key, 'changed_as_of', args[a + 1])
          drop_empty_store(guard, key)
        end
        a = a + 2
      elseif step == 'ids' then
        -- number of arguments
        local n = tonumber(args[a + 1])
        call('ZADD', key, unpack(args, a + 2, a + 1 + n))
        a = a + 2 + n
      elseif step == 'rank' then
        -- time to live, numbers of arguments to add and to remove
        local adds, rems = tonumber(args[a + 2]), tonumber(args[a + 3])
        a = a + 4
        if adds > 0 then call('ZADD', key, unpack(args, a, a + adds - 1)) end
        if rems > 0 then call('ZREM', key, unpack(args, a + adds, a + adds + rems - 1)) end
        call('PEXPIRE', key, args[a - 3])
        a = a + adds + rems
      else
        return redis.error_reply('ERR storeflow: unknown step ' .. tostring(step))
      end
      k = k + 1
    end
    call('SET', guard, next_guard)
  end
  k, a = last_key + 1, last_arg + 1
end
return refused
