-- What the server is, as far as its ACL lets us ask, and what its clock says.
local function section(name)
  local text = redis.pcall('INFO', name)
  return type(text) == 'string' and text or ''
end
local time = redis.call('TIME')
return {section('SERVER') .. '\r\n' .. section('PERSISTENCE'), time[1], time[2]}
