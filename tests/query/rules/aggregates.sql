-- Sums by join key are made where the table is, and added up
-- rows: users 1000, orders 1_000_000
-- different values: orders.user_id 1000
select u.country, sum(o.total), count(*) from users u join orders o on o.user_id = u.id group by 1
=>
1. s1 at people: SELECT country, id FROM users
2. g0 at trade: SELECT "o"."user_id" AS "user_id", SUM("o"."total") AS "fedorm__sum_total", COUNT(*) AS "fedorm__count" FROM "orders" AS "o" GROUP BY "o"."user_id" [user_id in s1.id]
finish: SELECT "u"."country" AS "country", SUM("o"."fedorm__sum_total") AS "_col_1", CAST(COALESCE(SUM("o"."fedorm__count"), 0) AS BIGINT) AS "_col_2" FROM "s1" AS "u" JOIN "g0" AS "o" ON "o"."user_id" = "u"."id" GROUP BY "u"."country"

-- The least and the greatest, and what belongs to all rows
-- rows: users 1000, orders 1_000_000
-- different values: orders.user_id 1000
select u.country, min(o.made), max(o.made) from users u join orders o on o.user_id = u.id where o.total > 5 group by 1 order by 1
=>
1. s1 at people: SELECT country, id FROM users
2. g0 at trade: SELECT "o"."user_id" AS "user_id", MIN("o"."made") AS "fedorm__min_made", MAX("o"."made") AS "fedorm__max_made" FROM "orders" AS "o" WHERE "o"."total" > 5 GROUP BY "o"."user_id" [user_id in s1.id]
finish: SELECT "u"."country" AS "country", MIN("o"."fedorm__min_made") AS "_col_1", MAX("o"."fedorm__max_made") AS "_col_2" FROM "s1" AS "u" JOIN "g0" AS "o" ON TRUE AND "o"."user_id" = "u"."id" WHERE TRUE GROUP BY "u"."country" ORDER BY "country"

-- Not where nearly every row is a group of its own
-- rows: users 1_000_000, orders 1_000_000
-- different values: orders.user_id 900_000
-- outside: people, trade
select u.country, sum(o.total) from users u join orders o on o.user_id = u.id group by 1
=>
1. s0 at people: SELECT country, id FROM users (read by DuckDB)
1. s1 at trade: SELECT total, user_id FROM orders (read by DuckDB)
finish: SELECT "u"."country" AS "country", SUM("o"."total") AS "_col_1" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" GROUP BY "u"."country"

-- Nor what has to see each row: DISTINCT
-- rows: users 1000, orders 1_000_000
-- different values: orders.user_id 1000
select u.country, count(distinct o.total) from users u join orders o on o.user_id = u.id group by 1
=>
1. s0 at people: SELECT country, id FROM users
2. s1 at trade: SELECT total, user_id FROM orders [user_id in s0.id]
finish: SELECT "u"."country" AS "country", COUNT(DISTINCT "o"."total") AS "_col_1" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" GROUP BY "u"."country"
