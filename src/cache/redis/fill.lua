-- Writes documents whose lease still stands. Answers how many.
-- KEYS: for each document its own and its mark's. ARGV: how long documents live, in milliseconds; for each document its lease, its
-- position, and itself, empty where the lease is given back.
local filled = 0
for i = 1, #KEYS, 2 do
  local n = 2 + (i - 1) / 2 * 3
  if redis.pcall('GET', KEYS[i + 1]) == ARGV[n] then
    if ARGV[n + 2] == '' then
      redis.call('DEL', KEYS[i + 1])
    else
      redis.call('SET', KEYS[i], ARGV[n + 2], 'PX', ARGV[1])
      redis.call('SET', KEYS[i + 1], 'v' .. ARGV[n + 1], 'PX', ARGV[1])
      filled = filled + 1
    end
  end
end
return filled
