-- Puts a new head in the place of the one that was seen, and answers the time. Nothing where there is another one by now.
-- KEYS: the head. ARGV: the head that was seen, empty for none; the new one; how long it lives, in milliseconds.
local head = redis.pcall('GET', KEYS[1])
if type(head) ~= 'string' then head = '' end
if head ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
