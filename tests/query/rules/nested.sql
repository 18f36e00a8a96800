-- A join in parentheses becomes a derived table
select u.email, p.amount from users u left join (orders o join payments p on p.order_id = o.id) on o.user_id = u.id
=>
1. s0 at trade: SELECT id, user_id FROM orders
1. s1 at bank: SELECT order_id, amount FROM payments
1. s2 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "nested_0"."p__amount" AS "amount" FROM "s2" AS "u" LEFT JOIN (SELECT "p"."amount" AS "p__amount", "o"."user_id" AS "o__user_id" FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id") AS "nested_0" ON "nested_0"."o__user_id" = "u"."id"

-- Within one service it is a piece
select u.email, i.sku from users u left join (orders o join items i on i.order_id = o.id) on o.user_id = u.id
=>
1. p0 at trade: SELECT "i"."sku" AS "i__sku", "o"."user_id" AS "o__user_id" FROM "orders" AS "o" JOIN "items" AS "i" ON "i"."order_id" = "o"."id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "nested_0"."i__sku" AS "sku" FROM "s1" AS "u" LEFT JOIN (SELECT "i__sku", "o__user_id" FROM "p0") AS "nested_0" ON "nested_0"."o__user_id" = "u"."id"

-- Parentheses within parentheses
select u.email, r.amount from users u left join (orders o join (payments p join refunds r on r.payment_id = p.id) on p.order_id = o.id) on o.user_id = u.id
=>
1. j0 at bank: SELECT "p"."order_id" AS "p__order_id", "r"."amount" AS "r__amount" FROM "payments" AS "p" CROSS JOIN "refunds" AS "r" WHERE "p"."id" = "r"."payment_id"
1. s1 at trade: SELECT id, user_id FROM orders
1. s2 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "nested_0"."r__amount" AS "amount" FROM "s2" AS "u" LEFT JOIN (SELECT "nested_1"."r__amount" AS "r__amount", "o"."user_id" AS "o__user_id" FROM "s1" AS "o" JOIN (SELECT "p"."p__order_id" AS "p__order_id", "p"."r__amount" AS "r__amount" FROM "j0" AS "p") AS "nested_1" ON "nested_1"."p__order_id" = "o"."id") AS "nested_0" ON "nested_0"."o__user_id" = "u"."id"

-- One of which no column is asked for
select u.email from users u left join (orders o join payments p on p.order_id = o.id) on true
=>
1. s0 at trade: SELECT id FROM orders
1. s1 at bank: SELECT order_id FROM payments
1. s2 at people: SELECT email FROM users
finish: SELECT "u"."email" AS "email" FROM "s2" AS "u" LEFT JOIN (SELECT 1 AS _ FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id") AS "nested_0" ON TRUE
