-- A condition over one table goes to its service, and stays in the finish
select u.email, o.total from users u join orders o on o.user_id = u.id where o.total > 5 and u.born < date '2000-01-01'
=>
1. s1 at trade: SELECT total, user_id FROM orders WHERE "total" > 5
2. s0 at people: SELECT email, id, born FROM users WHERE "born" < '2000-01-01' [id in s1.user_id]
finish: SELECT "u"."email" AS "email", "o"."total" AS "total" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."total" > 5 AND "o"."user_id" = "u"."id" WHERE TRUE AND "u"."born" < CAST('2000-01-01' AS DATE)

-- A condition over two tables stays
select u.email from users u join orders o on o.user_id = u.id and o.id > u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT id, user_id FROM orders
finish: SELECT "u"."email" AS "email" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."id" > "u"."id" AND "o"."user_id" = "u"."id"

-- Equality of texts may be checked anywhere, as the finish checks it again
-- strategy: hash
select o.id, p.id from orders o join payments p on p.order_id = o.id where p.note = 'x'
=>
1. s0 at trade: SELECT id FROM orders
1. s1 at bank: SELECT id, order_id, note FROM payments WHERE "note" = 'x'
finish: SELECT "o"."id" AS "id", "p"."id" AS "id" FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id" AND "p"."note" = 'x' WHERE TRUE

-- The order of texts, and their inequality, is no other database's to decide
-- strategy: hash
select o.id, p.id from orders o join payments p on p.order_id = o.id where p.note > 'x' and p.note <> 'y' and p.amount <> 3
=>
1. s0 at trade: SELECT id FROM orders
1. s1 at bank: SELECT id, order_id, amount, note FROM payments WHERE "amount" <> 3
finish: SELECT "o"."id" AS "id", "p"."id" AS "id" FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id" AND "p"."amount" <> 3 AND "p"."note" <> 'y' AND "p"."note" > 'x' WHERE TRUE AND TRUE AND TRUE

-- A function of a column stays
-- strategy: hash
select o.id, p.id from orders o join payments p on p.order_id = o.id where abs(p.amount) > 3
=>
1. s0 at trade: SELECT id FROM orders
1. s1 at bank: SELECT id, order_id, amount FROM payments
finish: SELECT "o"."id" AS "id", "p"."id" AS "id" FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id" AND ABS("p"."amount") > 3 WHERE TRUE

-- A condition in WHERE on the optional side of an outer join is not that side's, NULL may fulfil it
-- strategy: hash
select u.email, o.id from users u left join orders o on o.user_id = u.id where o.total is null and u.active
=>
1. s0 at people: SELECT email, id, active FROM users WHERE "active"
1. s1 at trade: SELECT id, user_id, total FROM orders
finish: SELECT "u"."email" AS "email", "o"."id" AS "id" FROM "s0" AS "u" LEFT JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" WHERE "o"."total" IS NULL AND "u"."active"

-- A condition in ON of an outer join goes to the side that it joins
-- strategy: hash
select u.email, o.id from users u left join orders o on o.user_id = u.id and o.total > 5 and u.active
=>
1. s0 at people: SELECT email, id, active FROM users
1. s1 at trade: SELECT id, total, user_id FROM orders WHERE "total" > 5
finish: SELECT "u"."email" AS "email", "o"."id" AS "id" FROM "s0" AS "u" LEFT JOIN "s1" AS "o" ON "o"."total" > 5 AND "o"."user_id" = "u"."id" AND "u"."active"

-- Neither side of a full join can be narrowed
-- strategy: hash
select u.email, o.id from users u full join orders o on o.user_id = u.id where o.total > 5 and u.active
=>
1. s0 at people: SELECT email, id, active FROM users
1. s1 at trade: SELECT id, user_id, total FROM orders
finish: SELECT "u"."email" AS "email", "o"."id" AS "id" FROM "s0" AS "u" FULL JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" WHERE "o"."total" > 5 AND "u"."active"

-- Parameters and lists stay open
-- strategy: hash
-- lists: ids
select u.email, o.id from users u join orders o on o.user_id = u.id where o.total > :least and u.id in (:ids)
=>
1. s0 at people: SELECT email, id FROM users WHERE "id" IN (%(ids)s)
1. s1 at trade: SELECT id, total, user_id FROM orders WHERE "total" > %(least)s
finish: SELECT "u"."email" AS "email", "o"."id" AS "id" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."total" > $least AND "o"."user_id" = "u"."id" WHERE TRUE AND "u"."id" = ANY($ids)

-- A condition that holds of a derived table goes into it
-- strategy: hash
select u.email, t.total from users u join (select user_id, total from orders) t on t.user_id = u.id where t.total > 5
=>
1. p0 at trade: SELECT "orders"."user_id" AS "user_id", "orders"."total" AS "total" FROM "orders" AS "orders" WHERE "orders"."total" > 5
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "t"."total" AS "total" FROM "s1" AS "u" JOIN (SELECT "user_id", "total" FROM "p0") AS "t" ON TRUE AND "t"."user_id" = "u"."id" WHERE TRUE

-- A condition on an aggregate does not
-- strategy: hash
-- outside: trade
-- rows: orders 1_000_000
select u.email, t.spent from users u join (select user_id, sum(total) as spent from orders group by 1) t on t.user_id = u.id where t.spent > 5
=>
1. s0 at trade: SELECT user_id, total FROM orders (read by DuckDB)
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "t"."spent" AS "spent" FROM "s1" AS "u" JOIN (SELECT "orders"."user_id" AS "user_id", SUM("orders"."total") AS "spent" FROM "s0" AS "orders" GROUP BY "orders"."user_id") AS "t" ON "t"."spent" > 5 AND "t"."user_id" = "u"."id" WHERE TRUE

-- OR over two services stays, a part of each branch over one goes nowhere
-- strategy: hash
select u.email from users u join orders o on o.user_id = u.id where (u.active and o.total > 5) or u.born is null
=>
1. s0 at people: SELECT email, id, active, born FROM users
1. s1 at trade: SELECT user_id, total FROM orders
finish: SELECT "u"."email" AS "email" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" WHERE ("o"."total" > 5 AND "u"."active") OR "u"."born" IS NULL

-- A date that is cast is a date; a moment of another type than its column is not
-- strategy: hash
select o.id from users u join orders o on o.user_id = u.id where u.born in (date '2000-01-01', '2001-01-01'::date) and o.made > timestamp '2000-01-01 10:00' and o.made < date '2002-01-01'
=>
1. s0 at people: SELECT id, born FROM users WHERE "born" IN ('2000-01-01', '2001-01-01')
1. s1 at trade: SELECT id, made, user_id FROM orders WHERE "made" > '2000-01-01 10:00'
finish: SELECT "o"."id" AS "id" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."made" < CAST('2002-01-01' AS DATE) AND "o"."made" > CAST('2000-01-01 10:00:00' AS TIMESTAMP) AND "o"."user_id" = "u"."id" WHERE TRUE AND TRUE AND "u"."born" IN (CAST('2000-01-01' AS DATE), CAST('2001-01-01' AS DATE))

-- Nor is one that is rounded
-- strategy: hash
select o.id from users u join orders o on o.user_id = u.id where o.made > timestamp(0) '2000-01-01 10:00:00.7'
=>
1. s0 at people: SELECT id FROM users
1. s1 at trade: SELECT id, made, user_id FROM orders
finish: SELECT "o"."id" AS "id" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."made" > CAST('2000-01-01 10:00:00.700000' AS TIMESTAMP(0)) AND "o"."user_id" = "u"."id" WHERE TRUE
