-- A statement over one service is sent whole
select u.email, count(*) from users u join profiles p on p.user_id = u.id group by 1 order by 2 desc limit 3
=>
1. p0 at people: SELECT "u"."email" AS "email", COUNT(*) AS "_col_1" FROM "users" AS "u" JOIN "profiles" AS "p" ON "p"."user_id" = "u"."id" GROUP BY "u"."email" ORDER BY "_col_1" DESC LIMIT 3
no finish

-- A service that means other things by a query is not sent it whole
select count(*), max(p.note) from payments p join refunds r on r.payment_id = p.id
=>
1. j0 at bank: SELECT "p"."note" AS "p__note" FROM "payments" AS "p" CROSS JOIN "refunds" AS "r" WHERE "p"."id" = "r"."payment_id"
finish: SELECT COUNT(*) AS "_col_0", MAX("p"."p__note") AS "_col_1" FROM "j0" AS "p"

-- A derived table of one service is answered there
select u.email, t.spent from users u join (select user_id, sum(total) as spent from orders group by 1) t on t.user_id = u.id
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id", SUM("orders"."total") AS "spent" FROM "orders" AS "orders" GROUP BY "orders"."user_id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "t"."spent" AS "spent" FROM "s1" AS "u" JOIN (SELECT "user_id", "spent" FROM "p0") AS "t" ON "t"."user_id" = "u"."id"

-- A subquery that refers to the outside is not
select u.email, (select sum(total) from orders o where o.user_id = u.id) as spent from users u
=>
1. s0 at trade: SELECT total, user_id FROM orders
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", (SELECT SUM("o"."total") AS "_col_0" FROM "s0" AS "o" WHERE "o"."user_id" = "u"."id") AS "spent" FROM "s1" AS "u"

-- One that does not refer to it is
select u.email from users u where u.id in (select user_id from orders group by 1 having sum(total) > 100)
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id" FROM "orders" AS "orders" GROUP BY "orders"."user_id" HAVING SUM("orders"."total") > 100
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email" FROM "s1" AS "u" WHERE "u"."id" IN (SELECT "user_id" FROM "p0")

-- A CTE of one service
with spent as (select user_id, sum(total) as total from orders group by 1) select u.email, s.total from users u join spent s on s.user_id = u.id
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id", SUM("orders"."total") AS "total" FROM "orders" AS "orders" GROUP BY "orders"."user_id"
1. s1 at people: SELECT email, id FROM users
finish: WITH "spent" AS (SELECT "user_id", "total" FROM "p0") SELECT "u"."email" AS "email", "s"."total" AS "total" FROM "s1" AS "u" JOIN "spent" AS "s" ON "s"."user_id" = "u"."id"

-- Each side of a UNION goes to its service
select id, email from users where active union all select id, 'order' from orders where total > 3
=>
1. p0 at trade: SELECT "orders"."id" AS "id", 'order' AS "order" FROM "orders" AS "orders" WHERE "orders"."total" > 3
1. p1 at people: SELECT "users"."id" AS "id", "users"."email" AS "email" FROM "users" AS "users" WHERE "users"."active"
finish: SELECT "id", "email" FROM "p1" UNION ALL SELECT "id", "order" FROM "p0"

-- An average is a float in every service
select u.email, a.mean from users u join (select user_id, avg(total) as mean from orders group by 1) a on a.user_id = u.id
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id", CAST(AVG("orders"."total") AS DOUBLE PRECISION) AS "mean" FROM "orders" AS "orders" GROUP BY "orders"."user_id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "a"."mean" AS "mean" FROM "s1" AS "u" JOIN (SELECT "user_id", "mean" FROM "p0") AS "a" ON "a"."user_id" = "u"."id"

-- A query with a LIMIT is answered where its table is, however large
-- rows: orders 1_000_000
-- outside: trade
select u.email, t.total from users u join (select user_id, total from orders order by total desc limit 10) t on t.user_id = u.id
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id", "orders"."total" AS "total" FROM "orders" AS "orders" ORDER BY "total" DESC LIMIT 10
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "t"."total" AS "total" FROM "s1" AS "u" JOIN (SELECT "user_id", "total" FROM "p0") AS "t" ON "t"."user_id" = "u"."id"
