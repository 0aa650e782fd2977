-- Gives the lease back and wakes those who wait for it.
--
-- KEYS[1]  the grant's hash; the channel of its waiters has the same name
-- ARGV[1]  owner
--
-- Nothing happens if somebody else has the lease by now, or nobody. Redis
-- removes a hash whose last field goes.

if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
	redis.call('HDEL', KEYS[1], 'owner', 'lease_until')
	-- Only a hint: a user who may not publish makes the others poll.
	redis.pcall('PUBLISH', KEYS[1], '')
end
return 1
