-- Leases the marks that are still as they were seen, and drops what stands under them. Answers 1 or 0 for each.
-- KEYS: for each document its own and its mark's. ARGV: how long a lease stands, in milliseconds; for each document the mark that
-- was seen, empty for none, and the lease.
local leased = {}
for i = 1, #KEYS, 2 do
  local mark = redis.pcall('GET', KEYS[i + 1])
  if type(mark) ~= 'string' then mark = '' end
  if mark == ARGV[i + 1] then
    redis.call('DEL', KEYS[i])
    redis.call('SET', KEYS[i + 1], ARGV[i + 2], 'PX', ARGV[1])
    leased[#leased + 1] = 1
  else
    leased[#leased + 1] = 0
  end
end
return leased
