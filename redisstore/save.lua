-- Stores or purges a grant, if what its Update was given is still stored. Who
-- holds the lease does not matter: a save that comes late may carry the only
-- copy of a new refresh token.
--
-- KEYS[1]  the grant's hash
-- ARGV[1]  '1' if the Update found a grant, else '0'
-- ARGV[2]  the fence that it found, or ''
-- ARGV[3]  a random name of this write, 13 characters
-- ARGV[4]  how long a hash without a grant is kept, in milliseconds
-- ARGV[5…] the fields to store, each name followed by its value; none purges
--
-- Returns 1 if the write was done, now or before, 0 if it is refused.

-- The client repeats a call whose answer it has lost. The fence alone cannot
-- tell that: it stays what it is when a verdict is written, and is another
-- one as soon as somebody has written since. So the last four writes leave
-- their names.
local writes = redis.call('HGET', KEYS[1], 'writes') or ''
if string.find(writes, ARGV[3], 1, true) then
	return 1
end
writes = string.sub(ARGV[3] .. ' ' .. writes, 1, 4 * 14)

-- A hash without a grant has no fence, whatever a purge left in it: a late
-- save is refused over it for ever, unless its Update was given nothing.
local found = redis.call('HEXISTS', KEYS[1], 'grant')
local fence = redis.call('HGET', KEYS[1], 'nonce') or ''
if tostring(found) ~= ARGV[1] or found == 1 and fence ~= ARGV[2] then
	return 0
end

if #ARGV > 4 then
	-- A full Redis refuses a script whose first change needs memory, and this
	-- pair has no other place. So the first is one that needs none.
	redis.call('PERSIST', KEYS[1])
	redis.call('HSET', KEYS[1], 'writes', writes, unpack(ARGV, 5))
	redis.call('HINCRBY', KEYS[1], 'version', 1)
elseif found == 1 then
	redis.call('HDEL', KEYS[1], 'grant', 'nonce', 'version', 'member_id', 'domain', 'expiry', 'updated_at')
	redis.call('HSET', KEYS[1], 'writes', writes)
	redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
