-- Requests for wrk, one line each: `GET /path` or `POST /path body`, sent in their order, again and again. `@SEQ@` in a body
-- becomes a number of 16 digits that rises with every request. Strings are made once; a request costs one table look-up.
--
--     wrk -s wrk.lua URL -- FILE

local requests, moving, at, seq = {}, {}, 0, 0
local SEQ = "@SEQ@"

function init(args)
  local made = {}
  for line in io.lines(args[1]) do
    if not made[line] then
      local method, path, body = line:match("^(%S+) (%S+) ?(.*)$")
      local headers = nil
      if body == "" then body = nil else headers = { ["Content-Type"] = "application/json" } end
      for name, value in pairs(wrk.headers) do
        if headers then headers[name] = value end
      end
      if body and body:find(SEQ, 1, true) then
        local whole = wrk.format(method, path, headers, (body:gsub(SEQ, ("0"):rep(16))))
        local before = #whole - #body - (16 - #SEQ) + body:find(SEQ, 1, true) - 1
        moving[line] = { whole:sub(1, before), whole:sub(before + 17) }
        made[line] = moving[line]
      else
        made[line] = wrk.format(method, path, headers, body)
      end
    end
    requests[#requests + 1] = made[line]
  end
  seq = os.time() * 1e6
end

function request()
  at = at % #requests + 1
  local made = requests[at]
  if type(made) == "table" then
    seq = seq + 1
    return made[1] .. string.format("%.0f", seq) .. made[2]
  end
  return made
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"p50":%.3f,"p99":%.3f,"p999":%.3f,"bad":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
