-- Writes documents and then the head, and answers the time. Nothing unless the head is the one that the writer wrote last, and
-- unless the new one would still be trusted.
-- KEYS: the head; for each document its own and its mark's. ARGV: the head as it must be; the new one; until when it may be trusted
-- and how long at most; how long documents live; for each document its position, and itself, empty for one that is not kept.
-- Times are milliseconds.
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = math.min(ARGV[3] - now, tonumber(ARGV[4]))
if left <= 0 then return false end
for i = 2, #KEYS, 2 do
  local position, document = ARGV[i + 4], ARGV[i + 5]
  local mark = redis.pcall('GET', KEYS[i + 1])
  local written = type(mark) == 'string' and tonumber(string.match(mark, '^v(%d+)$'))
  if not written or written < tonumber(position) then
    if document == '' then
      redis.call('DEL', KEYS[i])
    else
      redis.call('SET', KEYS[i], document, 'PX', ARGV[5])
    end
    redis.call('SET', KEYS[i + 1], 'v' .. position, 'PX', ARGV[5])
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', left)
return now
