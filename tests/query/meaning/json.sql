-- Documents of JSON
x.js->>'s'
x.js->'a'->'b'->>0
x.js->>1
x.js->>2
x.js#>>'{a,b,0}'
json_typeof(x.js)
json_array_length(x.js->'a'->'b')
x.js::text
(x.js->>'s') = 't'
(x.js->>'s') is null
x.js is null
x.js->'a' is null
x.js::jsonb = y.js::jsonb
jsonb_typeof(x.js::jsonb)
