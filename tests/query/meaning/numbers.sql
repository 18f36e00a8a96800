-- Numbers, conditions and casts
x.i / x.j
x.i % x.j
y.i / y.j
-7/2 + y.j - y.j
x.i / y.n
x.n / x.m
x.n / 3
1 / x.j
x.n * x.m
x.n * x.m * y.m
x.n + x.f
x.i / nullif(y.f, 0)
x.i / nullif(x.i, 0)
x.i / x.i
x.n / x.n
x.f / x.f
x.f / (x.f - x.f)
x.i % (x.j - x.j)
mod(x.i, x.j)
mod(x.n, x.m)
x.n % 2
div(x.n, 2)
x.i ^ 2
power(x.i, 2)
power(x.n, 2)
sqrt(abs(x.i))
sqrt(abs(x.n))
abs(x.n)
sign(x.n)
sign(x.i)
sign(x.f)
round(x.n)
round(x.n, 1)
round(x.f)
round(x.m, 2)
trunc(x.n)
trunc(x.m, 1)
trunc(x.f)
ceil(x.n)
floor(x.n)
ceil(x.f)
ceil(x.i / 2)
floor(x.f)
exp(x.j)
ln(abs(x.n) + 1)
log(abs(x.i) + 1)
log(2, abs(x.i) + 1)
x.i * x.i
x.i + 9223372036854775807
x.j + x.j
x.i & 3
x.i | 1
x.i # 5
~x.i
x.j >> 1
-x.n
x.f = x.n
x.f < x.n
x.f = 0.1
x.n = 0.5
x.i = 7.0
x.i = x.f
x.i = 9007199254740992
x.i > x.f
x.n::int
x.f::int
x.f::bigint
x.n::text
x.f::text
x.i::text
x.b::text
x.d::text
x.ts::text
x.tz::text
x.g::text
x.m::numeric(10,2)
x.f::numeric
x.f::numeric(10,1)
x.n::float
x.i::numeric / 3
x.b::int
'12'::int + x.j
' 12 '::int + x.j
'abc'::int + x.j
x.u::int
x.i::varchar(2)
x.u::char(3)
'2024-02-30'::date - x.d
cast(x.t as varchar(1))
'1e3'::float + x.f
'1.5'::numeric + x.n
greatest(x.i, y.i)
least(x.i, y.i, x.j)
greatest(x.i, null)
coalesce(x.i, y.i, 0)
nullif(x.t, '')
nullif(x.i, 7)
coalesce(x.n, x.i)
coalesce(x.n, 0)
case when x.i > 3 then x.n else x.i end
case x.t when 'x' then 1 else 0 end
case when x.b then 1 end
x.b and y.b
x.b or y.b
not x.b
x.b is true or x.b is false
x.b is not true
x.b is unknown
x.b = y.b
x.b > y.b
x.b = true
x.i is distinct from y.i
x.i is not distinct from y.i
x.i between 0 and 7
x.i not between 0 and 7
x.i between symmetric 7 and 0
x.i in (7, null)
x.i not in (7, null)
x.i not in (select y2.i from meaning_right.b y2)
(x.i, x.j) = (y.i, y.j)
(x.i, x.j) in ((7, 2), (5, 4))
(x.i, x.j) < (7, 3)
x.i = any(array[7, 5])
x.i <> all(array[7, 5])
x.i = any(select y2.i from meaning_right.b y2)
x.i > all(select y2.j from meaning_right.b y2 where y2.j is not null)
pi() + x.f
gcd(x.i, x.j)
to_hex(x.j)
degrees(x.f)
x.f || ''
concat(x.f, x.t)
regexp_match(x.u, '[a-z]+')
regexp_match(x.u, '([a-z])b')
x.ts - y.ts
age(x.d, y.d)
now() - now()
