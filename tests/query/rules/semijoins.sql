-- The keys of the small side narrow the big one
-- rows: users 1000, orders 1_000_000
select u.email, o.total from users u join orders o on o.user_id = u.id where u.country = 'DE'
=>
1. s0 at people: SELECT email, id, country FROM users WHERE "country" = 'DE'
2. s1 at trade: SELECT total, user_id FROM orders [user_id in s0.id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" WHERE "u"."country" = 'DE'

-- Keys travel on along a chain
-- rows: users 100_000, orders 1_000_000, payments 1_000_000
select u.email, p.amount from users u join orders o on o.user_id = u.id join payments p on p.order_id = o.id where u.id = 5
=>
1. s0 at people: SELECT email, id FROM users WHERE "id" = 5
2. s1 at trade: SELECT user_id, id FROM orders [user_id in s0.id]
3. s2 at bank: SELECT amount, order_id FROM payments [order_id in s1.id]
finish: SELECT "u"."email" AS "email", "p"."amount" AS "amount" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" JOIN "s2" AS "p" ON "o"."id" = "p"."order_id" WHERE "u"."id" = 5

-- Too many keys stay at home
-- rows: users 1_000_000, orders 1_000_000
select u.email, o.total from users u join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- Only the optional side of an outer join may be narrowed
-- rows: users 100, orders 1_000_000
select u.email, o.total from users u left join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
2. s1 at trade: SELECT total, user_id FROM orders [user_id in s0.id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" LEFT JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- A right join keeps the rows that the keys would lose
-- rows: users 100, orders 1_000_000
select u.email, o.total from users u right join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" RIGHT JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- A full join is narrowed on no side
-- rows: users 100, orders 1_000_000
select u.email, o.total from users u full join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" FULL JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- hash sends no keys
-- rows: users 100, orders 1_000_000
-- strategy: hash
select u.email, o.total from users u join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- lookup sends them where the planner would not
-- rows: users 1_000_000, orders 1_000_000
-- strategy: lookup
select u.email, o.total from users u join orders o on o.user_id = u.id
=>
1. s1 at trade: SELECT total, user_id FROM orders
2. s0 at people: SELECT email, id FROM users [id in s1.user_id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- nested_loop sends none, and hides the equality from the finish
-- rows: users 100, orders 1000
-- strategy: nested_loop
select u.email, o.total from users u join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON COALESCE("o"."user_id" = "u"."id", FALSE)

-- A large table that DuckDB can read is narrowed rather than read when the keys are few
-- rows: users 100_000, orders 1_000_000
-- outside: people, trade
select u.email, o.total from users u join orders o on o.user_id = u.id where u.id = 5
=>
1. s0 at people: SELECT email, id FROM users WHERE "id" = 5
2. s1 at trade: SELECT total, user_id FROM orders [user_id in s0.id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" WHERE "u"."id" = 5

-- And read by DuckDB when they are not
-- rows: users 1_000_000, orders 1_000_000
-- outside: people, trade
select u.email, o.total from users u join orders o on o.user_id = u.id
=>
1. s0 at people: SELECT email, id FROM users (read by DuckDB)
1. s1 at trade: SELECT total, user_id FROM orders (read by DuckDB)
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id"

-- A comparison that is no equality has no keys
-- rows: users 100, orders 100_000
select u.email, o.total from users u join orders o on o.user_id > u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT total, user_id FROM orders
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" > "u"."id"
