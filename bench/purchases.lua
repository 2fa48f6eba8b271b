-- Makes wrk send purchases with uniformly random keys out of the N keys 0, STRIDE, 2 STRIDE, …
--
--   wrk … -s bench/purchases.lua URL -- bare|keyed N STRIDE SEED
--
-- `bare` builds the text of all requests before the start. `keyed` gives each request an
-- Idempotency-Key that is unique across all runs. Like the keys of real clients, these keys are not
-- in order.

local thread_count = 0

function setup(thread)
   thread:set("thread_number", thread_count)
   thread_count = thread_count + 1
end

function init(args)
   local mode, stride, seed = args[1], tonumber(args[3]), tonumber(args[4])
   key_count = tonumber(args[2])
   -- The seed and the number of the thread determine the sequence of random keys.
   math.randomseed(seed * 1000 + thread_number)

   local body = '{"amount":"0.000001","reference":"order"}'
   tail = "\r\nContent-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
   -- A key is "ta_" and its number in 43 digits. The last eight digits are enough for any N in use.
   local head = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
      .. "\r\nX-API-Key: ta_" .. string.rep("0", 35)
   heads = {}
   for number = 0, key_count - 1 do
      heads[number + 1] = head .. string.format("%08d", number * stride)
   end

   if mode == "bare" then
      requests = {}
      for place = 1, key_count do
         requests[place] = heads[place] .. tail
      end
      request = function()
         return requests[math.random(key_count)]
      end
   elseif mode == "keyed" then
      local run = string.format("-%x-%d-%d-", os.time(), seed, thread_number)
      local count = 0
      request = function()
         count = count + 1
         local unordered = string.format("%08x", math.random(0, 0x7fffffff))
         return heads[math.random(key_count)] .. "\r\nIdempotency-Key: " .. unordered .. run .. count .. tail
      end
   else
      error("the mode must be bare or keyed")
   end
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      "purchases.lua: requests=%d microseconds=%d refused=%d connect=%d read=%d write=%d timeout=%d p50=%d p99=%d\n",
      summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write,
      errors.timeout, latency:percentile(50), latency:percentile(99)))
end
