-- Stores or deletes a grant, if the hash still is as its Update found it. Who
-- holds the lease does not matter: a save that comes late may carry the only
-- copy of a new refresh token.
--
-- KEYS[1]  the grant's hash
-- ARGV[1]  '1' if the Update found a grant, else '0'
-- ARGV[2]  the nonce that it found, or ''
-- ARGV[3]  the nonce of this write
-- ARGV[4]  how long a hash without a grant is kept, in milliseconds
-- ARGV[5…] the fields to store, each name followed by its value; none deletes
--
-- Returns 1 if that is what is stored now, 0 if something else is.

local nonce = redis.call('HGET', KEYS[1], 'nonce') or ''
if nonce == ARGV[3] then
	return 1 -- the client repeats a call whose answer it has lost
end

-- A deletion leaves its nonce for a while, so that a grant that came and went
-- counts as a change. That it has been forgotten since is none.
local found = redis.call('HEXISTS', KEYS[1], 'grant')
local forgotten = found == 0 and nonce == ''
if tostring(found) ~= ARGV[1] or nonce ~= ARGV[2] and not forgotten then
	return 0
end

if #ARGV > 4 then
	redis.call('HSET', KEYS[1], 'nonce', ARGV[3], unpack(ARGV, 5))
	redis.call('HINCRBY', KEYS[1], 'version', 1)
	redis.call('PERSIST', KEYS[1])
elseif found == 1 then
	redis.call('HDEL', KEYS[1], 'grant', 'version', 'member_id', 'domain', 'expiry', 'updated_at')
	redis.call('HSET', KEYS[1], 'nonce', ARGV[3])
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
