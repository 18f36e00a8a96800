-- What one service answers by itself
SELECT x.k, x.t from meaning_left.a x order by x.t, x.k
SELECT x.t as z from meaning_left.a x order by z
SELECT x.t as z from meaning_left.a x order by z desc limit 3
SELECT distinct x.t as z from meaning_left.a x order by z
SELECT x.t from meaning_left.a x union select x.u from meaning_left.a x order by 1
SELECT min(x.t), max(x.u), greatest('b', max(x.t)) from meaning_left.a x
SELECT x.k from meaning_left.a x where x.t < 'b' order by 1
SELECT x.k from meaning_left.a x where x.t between 'A' and 'a' order by 1
SELECT x.k, row_number() over (order by x.t, x.k) from meaning_left.a x order by 1
SELECT string_agg(x.t, ',' order by x.t), string_agg(distinct x.t, ',' order by x.t) from meaning_left.a x
SELECT x.k, z.m{FROM} join (select x.b, max(x.t) as m from meaning_left.a x group by x.b) z on z.b = x.b order by 1
SELECT x.k, x2.k, y.k from meaning_left.a x join meaning_left.a x2 on x.k = x2.j and x.t < x2.t join meaning_right.b y on y.k = x.k order by 1, 2
SELECT x.t, count(*) from meaning_left.a x group by x.t having max(x.u) > 'b' order by x.t
SELECT extract(hour from x.tz), x.tz::date, date_trunc('day', x.tz), x.tz::text, to_char(x.tz, 'HH24') from meaning_left.a x order by x.k
SELECT x.d::timestamptz, x.ts::timestamptz, x.tz::timestamp, date_trunc('month', x.d), x.tz + interval '1 month' from meaning_left.a x order by x.k
SELECT x.k from meaning_left.a x where x.tz > x.d order by 1
SELECT x.k from meaning_left.a x where x.tz > x.ts order by 1
SELECT x.k from meaning_left.a x where x.tz > '2024-01-31' order by 1
SELECT x.k from meaning_left.a x where x.tz > timestamptz '2024-02-29 00:00' order by 1
SELECT x.k{FROM} where x.tz > x.ts or y.tz > y.d order by 1
SELECT x.k{FROM} where x.tz > x.ts order by 1
SELECT x.c from meaning_left.a x where x.c = 'ab   ' order by x.k
SELECT z.c, length(z.c) from meaning_right.b y join (select x.c, x.k, count(*) from meaning_left.a x group by x.c, x.k) z on z.k = y.k order by 1, 2
SELECT y.k, z.q from meaning_right.b y join (select x.k, x.n / 3 as q from meaning_left.a x limit 5) z on z.k = y.k order by 1
SELECT x.k from meaning_left.a x where x.g = '00000000-0000-0000-0000-00000000000A' or x.g = '{00000000-0000-0000-0000-000000000001}' order by 1
