-- Takes the lease on a grant, if it is free or has run out.
--
-- KEYS[1]  the grant's hash
-- ARGV[1]  owner: a random name that nobody else has
-- ARGV[2]  the lease, in milliseconds
-- ARGV[3]  how long a hash without a grant is kept, in milliseconds
-- ARGV[4]  until when the asker waits, by this clock, in Unix milliseconds;
--          '' if that is not known
--
-- Returns the time by this clock, in Unix milliseconds, and
--   'late'   if the asker does not wait any more: a lease would be nobody's
--   'held'   if another owner has it
--   'taken', the stored form or nil, and its fence or nil
--
-- Who has the lease may take it again and gets the same reply: the client
-- repeats a call whose answer it has lost.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '' and now > tonumber(ARGV[4]) then
	return {now, 'late'}
end

local owner, lease_until, grant, fence =
	unpack(redis.call('HMGET', KEYS[1], 'owner', 'lease_until', 'grant', 'nonce'))
if owner and owner ~= ARGV[1] and now < tonumber(lease_until or 0) then
	return {now, 'held'}
end

-- What the save calls is called here first, to no effect: a user who lacks the
-- right to one of them would learn it when the refresh token is spent. HINCRBY
-- leads, because a full Redis refuses only the first change of a script.
redis.call('HINCRBY', KEYS[1], 'tried', 0)
redis.call('HDEL', KEYS[1], 'tried')
redis.call('HEXISTS', KEYS[1], 'tried')
redis.call('HGET', KEYS[1], 'tried')
redis.call('PERSIST', KEYS[1])

redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'lease_until', string.format('%d', now + ARGV[2]))
if not grant then
	redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {now, 'taken', grant, fence}
