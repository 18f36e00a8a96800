-- Whole statements
SELECT x.t{FROM} ORDER BY x.t
SELECT x.t{FROM} ORDER BY x.t desc
SELECT x.t{FROM} ORDER BY x.t nulls first
SELECT y.u{FROM} ORDER BY y.u
SELECT x.u{FROM} ORDER BY lower(x.u)
SELECT y.t, count(*){FROM} GROUP BY y.t ORDER BY y.t
SELECT distinct y.t{FROM} ORDER BY y.t
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.t = y.t ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.c = y.c ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.g = y.g ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.n = y.m ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.n = y.f ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.b = y.b ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.tz = y.tz ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.ts = y.tz ORDER BY x.k, y.k
SELECT x.k, y.k FROM meaning_left.a x JOIN meaning_right.b y ON x.d = y.ts ORDER BY x.k, y.k
SELECT x.t FROM meaning_left.a x UNION SELECT y.t FROM meaning_right.b y ORDER BY 1
SELECT x.t FROM meaning_left.a x INTERSECT SELECT y.t FROM meaning_right.b y ORDER BY 1
SELECT x.t FROM meaning_left.a x EXCEPT SELECT y.t FROM meaning_right.b y where y.k < 3 ORDER BY 1
SELECT x.i FROM meaning_left.a x UNION ALL SELECT y.n FROM meaning_right.b y ORDER BY 1
SELECT x.k FROM meaning_left.a x where x.t not in (select y.t from meaning_right.b y) order by 1
SELECT x.k FROM meaning_left.a x where x.t not in (select y.t from meaning_right.b y where y.t is not null) order by 1
SELECT x.k FROM meaning_left.a x where x.t in (select y.t from meaning_right.b y) order by 1
SELECT x.k FROM meaning_left.a x where exists (select 1 from meaning_right.b y where y.t = x.t and y.k > 4) order by 1
SELECT x.k{FROM} WHERE y.t = 'x' order by 1
SELECT x.k{FROM} WHERE y.t <> 'x' order by 1
SELECT x.k{FROM} WHERE y.t < 'b' order by 1
SELECT x.k{FROM} WHERE x.t < 'b' and x.c = 'ab' order by 1
SELECT x.k{FROM} WHERE y.c = 'ab' order by 1
SELECT x.k{FROM} WHERE y.c = 'ab   ' order by 1
SELECT x.k{FROM} WHERE y.b order by 1
SELECT x.k{FROM} WHERE not y.b order by 1
SELECT x.k{FROM} WHERE y.b is not true order by 1
SELECT x.k{FROM} WHERE y.b = true order by 1
SELECT x.k{FROM} WHERE y.f = 0.1 order by 1
SELECT x.k{FROM} WHERE y.n > 0.499 order by 1
SELECT x.k{FROM} WHERE y.i = 9007199254740993 order by 1
SELECT x.k{FROM} WHERE y.i = 9007199254740992 order by 1
SELECT x.k{FROM} WHERE y.i = 7.0 order by 1
SELECT x.k{FROM} WHERE y.d > '2024-01-31' order by 1
SELECT x.k{FROM} WHERE y.ts > '2024-01-31 12:00' order by 1
SELECT x.k{FROM} WHERE y.tz = '2024-01-31 23:30+00' order by 1
SELECT x.k{FROM} WHERE y.tz = timestamptz '2024-02-01 00:30+01' order by 1
SELECT x.k{FROM} WHERE y.g = '00000000-0000-0000-0000-000000000001' order by 1
SELECT x.k{FROM} WHERE x.g = '00000000-0000-0000-0000-000000000001' order by 1
SELECT x.k{FROM} WHERE y.g > '00000000-0000-0000-0000-000000000001' order by 1
SELECT x.k{FROM} WHERE x.g = '{00000000000000000000000000000001}' order by 1
SELECT x.k{FROM} WHERE x.i = '7' order by 1
SELECT x.k{FROM} WHERE y.i = '7' order by 1
SELECT x.k{FROM} WHERE x.i = x.t order by 1
SELECT x.k{FROM} WHERE x.i order by 1
SELECT x.k, e {FROM} cross join unnest(x.arr) as e order by 1, 2
SELECT x.k, e.v, e.o{FROM}, unnest(x.arr) with ordinality as e(v, o) order by 1, 3
SELECT x.k, unnest(x.arr) as v{FROM} order by 1, 2
SELECT x.k, gs{FROM} cross join generate_series(1, 3) as gs order by 1, 2
SELECT x.k, gs{FROM} cross join generate_series(1, 2) as s(gs) order by 1, 2
SELECT gs{FROM} cross join generate_series(date '2024-01-01', date '2024-01-02', interval '1 day') as gs where x.k = 1 order by 1
SELECT gs, x.k FROM generate_series(1, 3) as gs left join meaning_left.a x on x.k = gs left join meaning_right.b y on y.k = gs order by 1
SELECT gs, x.k FROM generate_series(3, 1, -1) as gs join meaning_left.a x on x.k = gs join meaning_right.b y on y.k = gs order by 1
SELECT x.k, v.n{FROM} join (values (1, 'a'), (2, 'b')) as v(k, n) on v.k = x.k order by 1
SELECT count(*), count(x.i), count(distinct x.t), count(distinct y.t){FROM}
SELECT count(distinct (x.t, x.i)){FROM}
SELECT sum(x.i)/count(*){FROM}
SELECT sum(x.i){FROM}
SELECT sum(x.j){FROM}
SELECT sum(x.j) / 3{FROM}
SELECT sum(x.j) / count(*){FROM}
SELECT sum(y.i) / 3{FROM}
SELECT sum(x.n){FROM}
SELECT sum(x.n) / 3{FROM}
SELECT sum(x.n * x.m){FROM}
SELECT sum(x.f){FROM} where x.k <> 7
SELECT avg(x.i){FROM} where x.k <> 7
SELECT avg(x.n){FROM} where x.k <> 7
SELECT avg(x.f){FROM} where x.k <> 7
SELECT avg(x.j)::numeric(10,2){FROM}
SELECT round(avg(x.n), 2){FROM}
SELECT round(avg(x.j), 1){FROM}
SELECT min(x.t), max(x.t), min(y.t), max(y.t){FROM}
SELECT min(x.c), max(x.c){FROM}
SELECT min(x.d), max(x.ts){FROM}
SELECT bool_and(x.b), bool_or(x.b), every(y.b){FROM}
SELECT bool_and(x.b){FROM} where x.k > 100
SELECT sum(x.i){FROM} where x.k > 100
SELECT count(x.i){FROM} where x.k > 100
SELECT array_agg(x.i){FROM} where x.k > 100
SELECT string_agg(x.t, ','){FROM} where x.k > 100
SELECT string_agg(x.t, ',' order by x.k){FROM}
SELECT string_agg(x.t, ',' order by x.t){FROM}
SELECT string_agg(x.t, ',' order by x.t desc, x.k){FROM}
SELECT string_agg(distinct x.t, ',' order by x.t){FROM}
SELECT string_agg(distinct y.t, ','order by y.t desc){FROM}
SELECT string_agg(x.i::text, '' order by x.k){FROM}
SELECT array_agg(x.i order by x.k){FROM}
SELECT array_agg(x.t order by x.t){FROM}
SELECT array_agg(x.t order by x.t desc){FROM}
SELECT array_agg(x.i order by x.i){FROM}
SELECT array_agg(distinct x.i order by x.i){FROM}
SELECT array_agg(x.i order by x.i nulls first){FROM}
SELECT array_agg(x.i order by x.k) filter (where x.i > 0){FROM}
SELECT sum(x.i) filter (where x.b){FROM}
SELECT count(*) filter (where x.b){FROM}
SELECT stddev(x.j), variance(x.j){FROM}
SELECT stddev_pop(x.f), var_samp(x.f){FROM} where x.k <> 7
SELECT corr(x.f, x.j){FROM} where x.k <> 7
SELECT regr_slope(x.f, x.j){FROM} where x.k <> 7
SELECT percentile_cont(0.5) within group (order by x.f){FROM}
SELECT percentile_cont(0.5) within group (order by x.j){FROM}
SELECT percentile_disc(0.5) within group (order by x.j){FROM}
SELECT mode() within group (order by x.j){FROM}
SELECT bit_and(x.j), bit_or(x.j){FROM}
SELECT x.b, count(*){FROM} group by x.b order by 1
SELECT x.b, count(*){FROM} group by 1 order by 1 desc
SELECT x.t, sum(y.i){FROM} group by x.t having sum(y.i) > 5 order by x.t
SELECT x.c, count(*){FROM} group by x.c order by x.c
SELECT y.c, count(*){FROM} group by y.c order by y.c
SELECT lower(x.t), count(*){FROM} group by lower(x.t) order by 1
SELECT x.b, y.b, count(*){FROM} group by grouping sets ((x.b), (y.b), ()) order by 1, 2, 3
SELECT distinct on (x.b) x.b, x.k{FROM} order by x.b, x.k
SELECT x.k{FROM} order by x.i, x.k
SELECT x.k{FROM} order by x.i desc, x.k
SELECT x.k{FROM} order by x.i desc nulls last, x.k
SELECT x.k{FROM} order by x.i nulls first, x.k
SELECT x.k{FROM} order by x.b, x.k
SELECT x.k{FROM} order by x.i is null, x.k desc
SELECT x.k{FROM} order by x.k limit 2 offset 1
SELECT x.k{FROM} order by x.k offset 3
SELECT x.k{FROM} order by x.k fetch first 2 rows only
SELECT x.k{FROM} order by x.k limit null
SELECT x.k{FROM} order by x.k limit 0
SELECT x.i as t{FROM} order by t
SELECT x.k as i{FROM} order by i desc
SELECT -x.k as k{FROM} order by k
SELECT sum(x.j) as j{FROM} group by x.j order by j
SELECT x.i + 1 as z{FROM} where x.k = 1
SELECT x.k, (select max(y2.i) from meaning_right.b y2 where y2.j = x.j){FROM} order by 1
SELECT x.k, (select y2.i from meaning_right.b y2 where y2.j = x.j){FROM} order by 1
SELECT (select y2.i from meaning_right.b y2){FROM} order by 1
SELECT x.k, z.s{FROM} join (select y2.j, sum(y2.i) as s from meaning_right.b y2 group by y2.j) z on z.j = x.j order by 1, 2
SELECT x.k, l.s{FROM} cross join lateral (select sum(y2.i) as s from meaning_right.b y2 where y2.j = x.j) l order by 1
SELECT x.k{FROM} where x.k = (select max(k) from meaning_right.b)
SELECT x.nope{FROM}
SELECT nope{FROM}
SELECT k{FROM}
SELECT z.k{FROM}
SELECT nosuch(x.k){FROM}
SELECT uper(x.t){FROM}
SELECT sum(x.t){FROM}
SELECT x.t + 1{FROM}
SELECT x.k, count(*){FROM}
SELECT x.k{FROM} where sum(x.k) > 1
SELECT x.d + x.d{FROM}
SELECT x.i = x.t{FROM}
SELECT coalesce(x.i, 'a'){FROM}
SELECT x.b + 1{FROM}
SELECT x.t and x.b{FROM}
SELECT x.k{FROM} where x.d = 'nodate'
SELECT 'a' = 'a '{FROM} limit 1
SELECT '' is null{FROM} limit 1
SELECT x.k = 1 and y.k / 0 = 1{FROM}
SELECT 1.0 / 3{FROM} limit 1
SELECT 10 / 4.0{FROM} limit 1
SELECT 0.1 + 0.2 = 0.3{FROM} limit 1
SELECT 7 / 2 {FROM} limit 1
SELECT 12345678901234567890 * 10{FROM} limit 1
SELECT 1e400 {FROM} limit 1
SELECT 'NaN'::float8 = 'NaN'::float8{FROM} limit 1
SELECT true = 't'{FROM} limit 1
SELECT 'yes'::boolean{FROM} limit 1
SELECT 'x'::boolean{FROM} limit 1
SELECT null = null{FROM} limit 1
SELECT U&'\00e9' = x.t{FROM} limit 1
SELECT E'a\nb'{FROM} limit 1
SELECT $$a$$ {FROM} limit 1
SELECT x.k as "Straße" {FROM} limit 1
SELECT x.k{FROM} WHERE x.n > 0.499 order by 1
SELECT x.k{FROM} WHERE x.n = 0.5 order by 1
SELECT x.k{FROM} WHERE y.i > 6.5 order by 1
SELECT x.k{FROM} WHERE x.i > 6.5 order by 1
SELECT x.k{FROM} WHERE x.i in (7, 5.5) order by 1
SELECT x.k{FROM} WHERE x.f in (7, 0.1) order by 1
SELECT x.k{FROM} WHERE x.f between 0.1 and 2.5 order by 1
SELECT x.k{FROM} WHERE x.d > '2024-01-31' order by 1
SELECT x.k{FROM} WHERE x.d in ('2024-01-31', '2023-06-15') order by 1
SELECT x.k{FROM} WHERE x.ts > '2024-01-31 12:00' order by 1
SELECT x.k{FROM} WHERE x.ts > '2024-01-31' order by 1
SELECT x.k{FROM} WHERE x.tz = '2024-01-31 23:30+00' order by 1
SELECT x.k{FROM} WHERE x.tz >= '2024-02-01 00:30+01' order by 1
SELECT x.k{FROM} WHERE y.tz >= '2024-02-01 00:30+01' order by 1
SELECT x.k{FROM} WHERE y.tz >= '2024-01-31 23:30' order by 1
SELECT x.k{FROM} WHERE x.tz >= '2024-01-31' order by 1
SELECT x.k{FROM} WHERE y.d in ('2024-01-31', '2023-06-15') order by 1
SELECT x.k{FROM} WHERE y.d < date '2024-01-31' + interval '1 month' order by 1
SELECT x.k{FROM} WHERE x.d < timestamp '2024-01-31 12:00' order by 1
SELECT x.k{FROM} WHERE x.c = 'ab ' and y.c <> 'x' order by 1
SELECT x.k{FROM} WHERE y.b in (true, null) order by 1
SELECT x.k{FROM} WHERE x.g = '00000000-0000-0000-0000-00000000000A' or x.g = '{00000000-0000-0000-0000-000000000001}' order by 1
SELECT x.k{FROM} WHERE y.g in ('{00000000-0000-0000-0000-000000000001}') order by 1
SELECT x.k{FROM} WHERE y.g <> '{00000000-0000-0000-0000-000000000001}' order by 1
SELECT x.k{FROM} WHERE y.g::text = '00000000-0000-0000-0000-000000000001' order by 1
SELECT x.k{FROM} WHERE y.g is null order by 1
SELECT x.k, y.k{FROM} WHERE x.g = y.g order by 1
SELECT coalesce(x.g, y.g){FROM} order by x.k
SELECT x.g, count(*){FROM} group by x.g order by 1
SELECT x.k from meaning_left.a x order by x.c, x.k
SELECT x.c from meaning_left.a x where x.c = 'ab  ' order by x.k
SELECT x.c{FROM} group by x.c order by 1
SELECT distinct x.c{FROM} order by 1
SELECT max(x.c){FROM}
SELECT z.c from (select x.c as c{FROM}) z order by 1
SELECT x.g from meaning_left.a x where x.g = '{00000000-0000-0000-0000-000000000001}' order by x.k
SELECT x.n / 3, avg(x.n) from meaning_left.a x group by x.n order by x.n
SELECT sum(x.i) / 3, sum(x.j) / 3 from meaning_left.a x
SELECT stddev(x.n), sqrt(sum(x.m)), round(avg(x.n), 1) from meaning_left.a x
SELECT x.k, z.q from meaning_left.a x join (select y.k, sum(y.i) / 2 as q from meaning_right.b y group by y.k) z on z.k = x.k order by 1
SELECT z.k, z.q, y.k from meaning_right.b y join (select x.k, sum(x.i) / 2 as q, sum(x.n) / 3 as r from meaning_left.a x group by x.k) z on z.k = y.k order by 1
SELECT (select max(y2.i) from meaning_right.b y2){FROM} order by 1
SELECT coalesce(sum(x.n), 0.00001) {FROM} where x.k > 100
SELECT least(sum(x.n), 10.00001) {FROM}
SELECT case when sum(x.n) > 5 then 0.12345 else sum(x.m) end {FROM}
SELECT sum(x.n) {FROM} union all select 10.001 from meaning_right.b y where y.k = 1
SELECT sum(x.i) {FROM} union all select 10.001 from meaning_right.b y where y.k = 1
SELECT x.k{FROM} group by x.k having sum(x.n) > 0.499 order by 1
SELECT greatest(sum(x.n), max(x.m)) {FROM}
SELECT coalesce(x.f, x.n)::text {FROM} order by x.k
SELECT round(coalesce(x.f, x.m)) {FROM} order by x.k
SELECT (x.f + x.n)::text {FROM} order by x.k
SELECT x.d - y.d, (x.d - y.d) / 7, x.d + 1 > y.d {FROM} order by x.k
