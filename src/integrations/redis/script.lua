-- What the store does for one breaker: the only way in which anything of it is changed.
--
-- KEYS  state (hash), leases (sorted set), tally (votes: sorted set, or counts: hash), members (sorted set)
-- ARGV  op, epoch, token, node, channel, key_ttl, longest_wait, leases, then the op's own
--
-- Times are milliseconds of this server. Whatever changes the state takes the epoch that the caller holds to be the
-- current one, and changes nothing if it is not. Store::apply in store.rs does the same, for the simulation.
local state, leases, tally, members = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local op, epoch, token, node, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local key_ttl, longest, places = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Nearly all looks find a closed breaker of which the caller knows: they are answered in a tenth of the time.
if op == 'sync' then
    local found = redis.pcall('HMGET', state, 'v', 'e', 'h', 's')
    if not found.err and (found[1] or '1') == '1' and (found[2] or '0') == ARGV[2]
        and (found[3] or '0') == ARGV[10] and (found[4] or 'c') == 'c' then
        if found[2] then redis.call('PEXPIRE', state, key_ttl) end
        local counted = true
        if ARGV[9] ~= '0' then
            local added = redis.pcall('ZADD', members, now + tonumber(ARGV[9]), node)
            counted = type(added) ~= 'table'
            if counted then redis.call('PEXPIRE', members, ARGV[9]) end
        end
        if counted then return '=' .. string.format('%.0f', now) end
    end
end

local DAY = 86400000
local HAND_TTL = 30 * DAY
local LONGEST_LEASE = 600000
local LONGEST_MEMBER = 3600000
local refused, done, votes, live, total, failed = 0, 0, 0, 0, 0, 0

local function int(position) return tonumber(ARGV[position]) end

-- A key that holds something foreign makes room.
local function try(key, ...)
    local result = redis.pcall(...)
    if type(result) == 'table' and result.err then
        if not (result.err:find('WRONGTYPE') or result.err:find('not an integer')) then error(result.err) end
        refused = refused + 1
        redis.call('DEL', key)
        result = redis.call(...)
    end
    return result
end

local function whole(value, max)
    if not value or #value > 16 or not value:find('^%d+$') then return nil end
    local number = tonumber(value)
    return number <= max and number or nil
end

local function text(value)
    return value and #value <= 200 and not value:find('%c') and value or nil
end

local STATES = { c = true, o = true, f = true, d = true, m = true }
local NOTHING = { epoch = 0, hand = 0, state = 'c', deadline = 0, wait = 0, attempt = 0, reason = '', node = '', who = '', why = '' }

local function read()
    local r = try(state, 'HMGET', state, 'v', 'e', 'h', 's', 'd', 'w', 'a', 'r', 'n', 'who', 'why')
    if not r[1] and not r[2] then return NOTHING end
    local found = {
        epoch = whole(r[2], now + DAY), hand = whole(r[3], now + DAY), state = STATES[r[4]] and r[4],
        deadline = whole(r[5], now + DAY + longest), wait = whole(r[6], longest), attempt = whole(r[7], 4294967295),
        reason = text(r[8]), node = text(r[9]), who = text(r[10]), why = text(r[11]),
    }
    local sound = r[1] == '1' and found.epoch and found.hand and found.state and found.deadline and found.wait
        and found.attempt and found.reason and found.node and found.who and found.why
    if sound then return found end
    refused = refused + 1
    redis.call('DEL', state)
    return NOTHING
end

local record = read()

local function remaining()
    if record.state ~= 'o' then return 0 end
    -- At most the wait itself, should the clock have stepped back.
    return math.max(0, math.min(record.deadline - now, record.wait))
end

local function is_hand_set(s) return s ~= 'c' and s ~= 'o' end

local function lifetime()
    if is_hand_set(record.state) then return math.max(key_ttl, HAND_TTL) end
    return key_ttl + remaining()
end

local function prune(key, longest_left)
    try(key, 'ZREMRANGEBYSCORE', key, '-inf', now)
    refused = refused + redis.call('ZREMRANGEBYSCORE', key, '(' .. string.format('%.0f', now + longest_left), '+inf')
end

-- How many leases are free, for how long the first of the others lasts, and for how long the caller's own.
local function leased()
    if record.state ~= 'o' then return places, 0, 0 end
    prune(leases, LONGEST_LEASE + longest)
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    local mine = redis.call('ZSCORE', leases, token)
    return math.max(0, places - redis.call('ZCARD', leases)), first[2] and first[2] - now or 0, mine and mine - now or 0
end

local function message(verdict)
    local free, first, mine = leased()
    local fields = {
        '1', now, record.epoch, record.hand, record.state, remaining(), record.wait, record.attempt,
        record.reason, record.node, record.who, record.why, free, first,
        verdict, refused, mine, votes, live, total, failed,
    }
    for i, field in ipairs(fields) do
        if type(field) == 'number' then fields[i] = string.format('%.0f', field) end
    end
    return table.concat(fields, '\31')
end

local function publish() redis.call('PUBLISH', channel, message(0)) end

local function write(to)
    for field, value in pairs(record) do
        if to[field] == nil then to[field] = value end
    end
    record = to
    local function number(value) return string.format('%.0f', value) end
    redis.call('HSET', state, 'v', '1', 'e', number(to.epoch), 'h', number(to.hand), 's', to.state,
        'd', number(to.deadline), 'w', number(to.wait), 'a', number(to.attempt), 'r', to.reason, 'n', to.node,
        'who', to.who, 'why', to.why)
    redis.call('PEXPIRE', state, lifetime())
    redis.call('DEL', leases, tally)
    done = 1
    publish()
end

-- A new epoch is above all older ones also where the store has forgotten them.
local function mint() return math.max(record.epoch + 1, epoch + 1, now) end

local function open(wait, attempt, reason)
    write({ epoch = mint(), state = 'o', deadline = now + wait, wait = wait, attempt = attempt, reason = reason, node = node, who = '', why = '' })
end

local function holds()
    local _, _, mine = leased()
    return record.epoch == epoch and record.state == 'o' and mine > 0
end

local function be_counted(member_ttl)
    if member_ttl == 0 then return end
    try(members, 'ZADD', members, now + member_ttl, node)
    prune(members, LONGEST_MEMBER)
    redis.call('PEXPIRE', members, member_ttl)
    live = redis.call('ZCARD', members)
end

local ops = {}

-- member_ttl (0: nobody counts the members), hand
function ops.sync()
    be_counted(int(9))
    if record.epoch > 0 then redis.call('PEXPIRE', state, lifetime()) end
    done = 1
end

-- member_ttl, wait, reason, nodes needed, share of the live ones needed (in 100,000,000ths)
function ops.trip()
    be_counted(int(9))
    if record.epoch ~= epoch or record.state ~= 'c' then return end
    local wait, needed = int(10), math.max(int(12), math.ceil(int(13) * live / 100000000))
    if needed > 1 then
        try(tally, 'ZADD', tally, now + wait, node)
        prune(tally, longest)
        redis.call('PEXPIRE', tally, longest)
        votes = redis.call('ZCARD', tally)
        if votes < needed then return end
    end
    open(wait, 0, ARGV[11])
end

function ops.withdraw()
    try(tally, 'ZREM', tally, node)
    done = 1
end

-- calls, failures, bucket, buckets
function ops.count()
    if record.epoch ~= epoch or record.state ~= 'c' then return end
    local length, buckets = int(11), int(12)
    local bucket = math.floor(now / length)
    try(tally, 'HINCRBY', tally, string.format('%.0f', bucket) .. ':t', ARGV[9])
    try(tally, 'HINCRBY', tally, string.format('%.0f', bucket) .. ':f', ARGV[10])
    redis.call('PEXPIRE', tally, length * buckets)
    local all = redis.call('HGETALL', tally)
    for i = 1, #all, 2 do
        local at, kind = all[i]:match('^(%d+):([tf])$')
        local value = whole(all[i + 1], 9007199254740991)
        at = at and tonumber(at)
        if not at or not value or at > bucket then
            refused = refused + 1
            redis.call('HDEL', tally, all[i])
        elseif at <= bucket - buckets then
            redis.call('HDEL', tally, all[i])
        elseif kind == 't' then
            total = total + value
        else
            failed = failed + value
        end
    end
    done = 1
end

-- lease_ttl, lead: how long before the deadline it may be taken
function ops.lease()
    local free, _, mine = leased()
    if record.epoch ~= epoch or record.state ~= 'o' or remaining() > int(10) or (free == 0 and mine == 0) then return end
    redis.call('ZADD', leases, now + remaining() + int(9), token)
    redis.call('PEXPIRE', leases, remaining() + int(9))
    done = 1
    publish()
end

function ops.release()
    if not holds() then return end
    redis.call('ZREM', leases, token)
    done = 1
    publish()
end

-- wait, reason
function ops.reopen()
    if holds() then open(int(9), math.min(record.attempt + 1, 4294967295), ARGV[10]) end
end

function ops.close()
    if not holds() then return end
    write({ epoch = mint(), state = 'c', deadline = 0, wait = 0, attempt = 0, reason = '', node = node, who = '', why = '' })
end

-- state, who, why
function ops.hand()
    local to = mint()
    write({ epoch = to, hand = to, state = ARGV[9], deadline = 0, wait = 0, attempt = 0, reason = 'by_hand', node = node, who = ARGV[10], why = ARGV[11] })
end

-- hand, state, remaining, wait, attempt, reason, node, who, why
function ops.restore()
    local hand, to = int(9), epoch
    local by_hand = is_hand_set(ARGV[10]) or is_hand_set(record.state)
    if by_hand and hand < record.hand then
        -- The sender has missed what the hand did since: it learns of it by an epoch above its own.
        if epoch > record.epoch then write({ epoch = mint() }) end
        return
    end
    if epoch <= record.epoch then
        if hand <= record.hand then return end
        if not by_hand then
            -- So that nobody takes what was set by hand before for what still holds.
            record.hand, done = hand, 1
            redis.call('HSET', state, 'h', string.format('%.0f', hand))
            return
        end
        -- What was set by hand is stronger than what came after the store forgot it.
        to = mint()
    end
    write({ epoch = to, hand = math.max(hand, record.hand), state = ARGV[10], deadline = ARGV[10] == 'o' and now + int(11) or 0, wait = int(12), attempt = int(13), reason = ARGV[14], node = ARGV[15], who = ARGV[16], why = ARGV[17] })
end

ops[op]()
return message(done)
