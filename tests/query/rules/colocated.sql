-- Tables of one service are joined there
-- rows: orders 1000, items 3000
select u.email, o.id, i.sku from users u join orders o on o.user_id = u.id join items i on i.order_id = o.id where i.amount > 1
=>
1. j0 at trade: SELECT "o"."id" AS "o__id", "i"."sku" AS "i__sku", "o"."user_id" AS "o__user_id" FROM "orders" AS "o" CROSS JOIN "items" AS "i" WHERE "i"."amount" > 1 AND "i"."order_id" = "o"."id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "o"."o__id" AS "id", "o"."i__sku" AS "sku" FROM "s1" AS "u" CROSS JOIN "j0" AS "o" WHERE TRUE AND "o"."o__user_id" = "u"."id"

-- Wherever the other service's table stands in between
select i.sku from orders o join users u on o.user_id = u.id join items i on i.order_id = o.id
=>
1. j0 at trade: SELECT "i"."sku" AS "i__sku", "o"."user_id" AS "o__user_id" FROM "orders" AS "o" CROSS JOIN "items" AS "i" WHERE "i"."order_id" = "o"."id"
1. s1 at people: SELECT id FROM users
finish: SELECT "o"."i__sku" AS "sku" FROM "j0" AS "o" JOIN "s1" AS "u" ON "o"."o__user_id" = "u"."id"

-- Conditions over the group go with it, those over others stay
select i.sku from orders o join users u on o.user_id = u.id join items i on i.order_id = o.id and i.amount > o.total and i.id > u.id
=>
1. j0 at trade: SELECT "i"."sku" AS "i__sku", "o"."user_id" AS "o__user_id", "i"."id" AS "i__id" FROM "orders" AS "o" CROSS JOIN "items" AS "i" WHERE "i"."amount" > "o"."total" AND "i"."order_id" = "o"."id"
1. s1 at people: SELECT id FROM users
finish: SELECT "o"."i__sku" AS "sku" FROM "j0" AS "o" JOIN "s1" AS "u" ON "o"."o__user_id" = "u"."id" WHERE "o"."i__id" > "u"."id"

-- Comma joins are joins
select u.email, i.sku from users u, orders o, items i where o.user_id = u.id and i.order_id = o.id
=>
1. j0 at trade: SELECT "i"."sku" AS "i__sku", "o"."user_id" AS "o__user_id" FROM "orders" AS "o" CROSS JOIN "items" AS "i" WHERE "i"."order_id" = "o"."id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "o"."i__sku" AS "sku" FROM "s1" AS "u" CROSS JOIN "j0" AS "o" WHERE TRUE AND TRUE AND "o"."o__user_id" = "u"."id"

-- The optional table of an outer join is not joined there
select u.email, o.id, i.sku from users u join orders o on o.user_id = u.id left join items i on i.order_id = o.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT id, user_id FROM orders
1. s2 at trade: SELECT sku, order_id FROM items
finish: SELECT "u"."email" AS "email", "o"."id" AS "id", "i"."sku" AS "sku" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" LEFT JOIN "s2" AS "i" ON "i"."order_id" = "o"."id"

-- Tables without a condition between them are no group
select u.email, o.id, i.sku from users u join orders o on o.user_id = u.id join items i on i.id = u.id
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT id, user_id FROM orders
1. s2 at trade: SELECT sku, id FROM items
finish: SELECT "u"."email" AS "email", "o"."id" AS "id", "i"."sku" AS "sku" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" JOIN "s2" AS "i" ON "i"."id" = "u"."id"

-- By numbers also where texts mean something else
select o.id, p.amount, r.amount from orders o join payments p on p.order_id = o.id join refunds r on r.payment_id = p.id
=>
1. j0 at bank: SELECT "p"."amount" AS "p__amount", "r"."amount" AS "r__amount", "p"."order_id" AS "p__order_id" FROM "payments" AS "p" CROSS JOIN "refunds" AS "r" WHERE "p"."id" = "r"."payment_id"
1. s1 at trade: SELECT id FROM orders
finish: SELECT "o"."id" AS "id", "p"."p__amount" AS "amount", "p"."r__amount" AS "amount" FROM "s1" AS "o" CROSS JOIN "j0" AS "p" WHERE "o"."id" = "p"."p__order_id"

-- A table joined with itself
select u.email, a.id, b.id from users u join orders a on a.user_id = u.id join orders b on b.user_id = a.user_id and b.id > a.id
=>
1. j0 at trade: SELECT "a"."id" AS "a__id", "b"."id" AS "b__id", "a"."user_id" AS "a__user_id" FROM "orders" AS "a" CROSS JOIN "orders" AS "b" WHERE "a"."id" < "b"."id" AND "a"."user_id" = "b"."user_id"
1. s1 at people: SELECT email, id FROM users
finish: SELECT "u"."email" AS "email", "a"."a__id" AS "id", "a"."b__id" AS "id" FROM "s1" AS "u" CROSS JOIN "j0" AS "a" WHERE "a"."a__user_id" = "u"."id"

-- By texts only where they mean the same
select o.id, p.amount, r.amount from orders o join payments p on p.order_id = o.id join refunds r on r.note = p.note
=>
1. s0 at trade: SELECT id FROM orders
1. s1 at bank: SELECT amount, order_id, note FROM payments
1. s2 at bank: SELECT amount, note FROM refunds
finish: SELECT "o"."id" AS "id", "p"."amount" AS "amount", "r"."amount" AS "amount" FROM "s0" AS "o" JOIN "s1" AS "p" ON "o"."id" = "p"."order_id" JOIN "s2" AS "r" ON "p"."note" = "r"."note"

-- A cross join would make more rows than it reads
select u.email, o.id, p.id from users u join orders o on o.user_id = u.id cross join items p
=>
1. s0 at people: SELECT email, id FROM users
1. s1 at trade: SELECT id, user_id FROM orders
1. s2 at trade: SELECT id FROM items
finish: SELECT "u"."email" AS "email", "o"."id" AS "id", "p"."id" AS "id" FROM "s0" AS "u" JOIN "s1" AS "o" ON "o"."user_id" = "u"."id" CROSS JOIN "s2" AS "p"
