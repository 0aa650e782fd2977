-- Takes the lease on a grant, if it is free or has run out.
--
-- KEYS[1]  the grant's hash
-- ARGV[1]  owner: a random name that nobody else has
-- ARGV[2]  the lease, in milliseconds
-- ARGV[3]  how long a hash without a grant is kept, in milliseconds
--
-- Returns 0 if another owner holds the lease; else the stored form or nil,
-- its nonce or nil, and '1' if the owner before never ended.
--
-- Who has the lease may take it again and is told the same: the client
-- repeats a call whose answer it has lost.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local owner, lease_until, inherited, grant, nonce =
	unpack(redis.call('HMGET', KEYS[1], 'owner', 'lease_until', 'inherited', 'grant', 'nonce'))
if owner ~= ARGV[1] then
	if owner and now < tonumber(lease_until or 0) then
		return 0
	end
	inherited = owner and '1' or '0'
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'inherited', inherited,
	'lease_until', string.format('%d', now + ARGV[2]))
if not grant then
	redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {grant, nonce, inherited}
