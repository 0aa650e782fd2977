-- Returns the stored form of the grant, or nil.
--
-- KEYS[1]  the grant's hash
--
-- A script and not HGET, because a cluster client may send a command that
-- only reads to a replica, which can still hold the pair before the last one.

return redis.call('HGET', KEYS[1], 'grant')
