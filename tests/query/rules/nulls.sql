-- NULL first of a table that DuckDB reads
-- rows: users 1_000_000, orders 1_000_000
-- outside: people, trade
select u.email, o.total from users u join orders o on o.user_id = u.id order by o.total desc limit 3
=>
1. s0 at people: SELECT email, id FROM users (read by DuckDB)
1. s1 at trade: SELECT total, user_id FROM orders (read by DuckDB)
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" ORDER BY ("o"."total") IS NULL DESC, "o"."total" DESC LIMIT 3
or, 4 of s1 at a time:
1. s1 at trade: SELECT total, user_id FROM orders ORDER BY total DESC
2. s0 at people: SELECT email, id FROM users [id in s1.user_id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" ORDER BY "o"."total" DESC NULLS FIRST LIMIT 3

-- An output of the name of a column
-- rows: users 1_000_000, orders 1_000_000
-- outside: people, trade
select u.email, coalesce(o.total, 0) as total from users u join orders o on o.user_id = u.id order by total desc, 1 limit 3
=>
1. s0 at people: SELECT email, id FROM users (read by DuckDB)
1. s1 at trade: SELECT total, user_id FROM orders (read by DuckDB)
finish: SELECT "u"."email" AS "email", COALESCE("o"."total", 0) AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" ORDER BY (COALESCE("o"."total", 0)) IS NULL DESC, "total" DESC, "email" LIMIT 3

-- A UNION is ordered from outside
-- rows: users 1_000_000, orders 1_000_000
-- outside: people, trade
select id from users union all select user_id from orders order by 1 nulls first limit 3 offset 1
=>
1. s0 at people: SELECT id FROM users (read by DuckDB)
1. s1 at trade: SELECT user_id FROM orders (read by DuckDB)
finish: SELECT ordered.c0 AS "id" FROM (SELECT "users"."id" AS "id" FROM "s0" AS "users" UNION ALL SELECT "orders"."user_id" AS "user_id" FROM "s1" AS "orders") AS ordered(c0) ORDER BY (ordered.c0) IS NULL DESC, "id" LIMIT 3 OFFSET 1

-- NULL last, or no LIMIT, stays as it is
-- rows: users 1_000_000, orders 1_000_000
-- outside: people, trade
select u.email from users u join orders o on o.user_id = u.id where o.id in (select id from orders order by total limit 5) order by o.total desc
=>
1. p0 at trade: SELECT "orders"."id" AS "id" FROM "orders" AS "orders" ORDER BY "orders"."total" LIMIT 5
1. s1 at people: SELECT email, id FROM users (read by DuckDB)
1. s2 at trade: SELECT id, user_id, total FROM orders (read by DuckDB)
finish: SELECT "u"."email" AS "email" FROM "s1" AS "u" JOIN "s2" AS "o" ON "o"."id" IN (SELECT "id" FROM "p0") AND "o"."user_id" = "u"."id" WHERE TRUE ORDER BY "o"."total" DESC NULLS FIRST

-- Rows that have come over the session stay as they are
-- strategy: hash
select u.email, o.total from users u join orders o on o.user_id = u.id order by o.total desc limit 3
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" ORDER BY "o"."total" DESC NULLS FIRST LIMIT 3
