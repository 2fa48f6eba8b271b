-- Makes wrk send requests with uniformly random keys out of the keys 0 to N - 1.
--
--   wrk … -s bench/keys.lua URL -- prebuilt|built|unknown N SEED
--   wrk … -s bench/keys.lua URL -- each N FIRST
--
-- `prebuilt` builds the text of all requests before the start, so that wrk does as little work as
-- possible during the measurement. `built` builds each text just before wrk sends it, which is the
-- same work for any N. `unknown` works like `built`, but with N keys that no database contains.
-- `each` works like `built`, but sends the keys in their order, beginning with the key FIRST. It needs
-- one thread.

local thread_count = 0

function setup(thread)
   thread:set("thread_number", thread_count)
   thread_count = thread_count + 1
end

function init(args)
   local mode, seed = args[1], tonumber(args[3])
   key_count = tonumber(args[2])
   -- The seed and the number of the thread determine the sequence of random keys.
   math.randomseed(seed * 1000 + thread_number)

   -- A key is "ta_" and its number in 43 digits. The last eight digits are enough for any N in use.
   head = "GET " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port
      .. "\r\nX-API-Key: ta_" .. string.rep("0", 35)
   tail = "\r\n\r\n"

   if mode == "prebuilt" then
      requests = {}
      for number = 0, key_count - 1 do
         requests[number + 1] = build(number)
      end
      request = function()
         return requests[math.random(key_count)]
      end
   elseif mode == "built" then
      request = function()
         return build(math.random(key_count) - 1)
      end
   elseif mode == "unknown" then
      request = function()
         return build(99999999 - math.random(key_count))
      end
   elseif mode == "each" then
      local number = seed
      request = function()
         number = number + 1
         return build((number - 1) % key_count)
      end
   else
      error("the mode must be prebuilt, built, unknown or each")
   end
end

function build(number)
   return head .. string.format("%08d", number) .. tail
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      "keys.lua: requests=%d microseconds=%d refused=%d connect=%d read=%d write=%d timeout=%d p50=%d p99=%d\n",
      summary.requests, summary.duration, errors.status, errors.connect, errors.read, errors.write,
      errors.timeout, latency:percentile(50), latency:percentile(99)))
end
