-- The first rows of an order are read where they are, if no join takes any away
-- rows: users 1000, orders 1_000_000
select o.id, u.email from orders o left join users u on u.id = o.user_id order by o.total desc, o.id limit 3
=>
1. s0 at trade: SELECT id, user_id, total FROM orders ORDER BY total DESC, id ASC LIMIT 3
2. s1 at people: SELECT email, id FROM users [id in s0.user_id]
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" LEFT JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."total" DESC NULLS FIRST, "o"."id" LIMIT 3

-- With an offset, as many more
-- rows: users 1000, orders 1_000_000
select o.id, u.email from orders o left join users u on u.id = o.user_id order by o.id limit 3 offset 10
=>
1. s0 at trade: SELECT id, user_id FROM orders ORDER BY id ASC LIMIT 3 + 10
2. s1 at people: SELECT email, id FROM users [id in s0.user_id]
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" LEFT JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."id" LIMIT 3 OFFSET 10

-- A parameter stays open
-- rows: users 1000, orders 1_000_000
select o.id, u.email from orders o left join users u on u.id = o.user_id order by o.id limit :most
=>
1. s0 at trade: SELECT id, user_id FROM orders ORDER BY id ASC LIMIT %(most)s
2. s1 at people: SELECT email, id FROM users [id in s0.user_id]
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" LEFT JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."id" LIMIT $most

-- Where a join may take some away, a part at a time
-- rows: users 1000, orders 1_000_000
select o.id, u.email from orders o join users u on u.id = o.user_id order by o.id limit 3
=>
1. s1 at people: SELECT email, id FROM users
2. s0 at trade: SELECT id, user_id FROM orders [user_id in s1.id]
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."id" LIMIT 3
or, 4 of s0 at a time:
1. s0 at trade: SELECT id, user_id FROM orders ORDER BY id ASC
2. s1 at people: SELECT email, id FROM users [id in s0.user_id]
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."id" LIMIT 3

-- An order over two tables needs all rows
-- rows: users 1000, orders 1_000_000
select o.id, u.email from orders o left join users u on u.id = o.user_id order by o.total, u.id limit 3
=>
1. s0 at trade: SELECT id, user_id, total FROM orders
1. s1 at people: SELECT email, id FROM users
finish: SELECT "o"."id" AS "id", "u"."email" AS "email" FROM "s0" AS "o" LEFT JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" ORDER BY "o"."total", "u"."id" LIMIT 3

-- So does a group
-- rows: users 1000, orders 1_000_000
select o.user_id, max(u.email), count(*) from orders o left join users u on u.id = o.user_id group by 1 order by 1 limit 3
=>
1. s0 at trade: SELECT user_id FROM orders
1. s1 at people: SELECT email, id FROM users
finish: SELECT "o"."user_id" AS "user_id", MAX("u"."email") AS "_col_1", COUNT(*) AS "_col_2" FROM "s0" AS "o" LEFT JOIN "s1" AS "u" ON "o"."user_id" = "u"."id" GROUP BY "o"."user_id" ORDER BY "user_id" LIMIT 3
