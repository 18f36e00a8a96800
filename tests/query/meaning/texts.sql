-- Texts, patterns and windows
x.t = y.t
x.t = 'x'
y.t = 'x'
y.t = 'X'
y.t in ('x', 'e')
y.t <> 'x'
y.t < 'b'
y.t > 'X'
y.t like 'x%'
y.t like 'X'
y.t ilike 'X%'
y.t not ilike 'x'
y.u ilike 'ä%'
y.u like 'a\_b\%c'
y.u like 'a!_b!%c' escape '!'
y.u like '%\\n'
y.u like 'a_b%'
y.u like x.u
y.u like 'x\'
y.u similar to '(a|B)%'
y.u ~ '^[a-z]'
y.u ~* '^STRA'
y.u !~ 'a'
y.u !~* 'A'
x.t || y.t
x.t || null
x.t || x.i
x.i || x.t
x.t || x.d
x.t || x.b
concat(x.t, null, y.t)
concat(x.t, x.i, x.b)
concat_ws('-', x.t, null, y.i)
substring(x.u, 2, 3)
substring(x.u from 2 for 3)
substring(x.u from 0 for 3)
substring(x.u, -1, 4)
substring(x.u from '[a-z]+')
substr(x.u, 2)
left(x.u, 2)
left(x.u, -1)
right(x.u, 2)
right(x.u, -1)
position('a' in x.u)
position('' in x.u)
strpos(x.u, 'b')
lower(x.u)
initcap(x.u)
length(x.u)
char_length(y.u)
octet_length(x.u)
bit_length(x.u)
length(x.c)
x.c || '|'
x.c = 'ab'
x.c = 'ab  '
x.c = y.c
y.c = 'ab'
y.c
x.c
x.c = x.t
x.c like 'ab'
trim(x.u)
trim(both ' ' from x.u)
trim('a' from x.u)
ltrim(x.u)
rtrim(x.u, 'c')
btrim(x.u, 'a')
lpad(x.u, 8, '*')
rpad(x.u, 8, '*')
lpad(x.u, 3, '*')
lpad(x.u, 8)
repeat(x.t, 3)
replace(x.u, 'a', 'z')
translate(x.u, 'ab', 'z')
reverse(x.u)
split_part(x.u, '_', 2)
split_part(x.u, '_', -1)
split_part(x.u, '_', 5)
regexp_replace(x.u, '[a-z]', '*')
regexp_replace(x.u, '[a-z]', '*', 'g')
regexp_replace(x.u, '(a)(_)', '\2\1')
regexp_match(x.u, '[a-z]+')
string_to_array(x.u, '_')
array_to_string(string_to_array(x.u, '_'), '-')
md5(x.u)
ascii(x.u)
chr(x.j + 70)
starts_with(x.u, 'a')
x.u ^@ 'a'
overlay(x.u placing '__' from 2 for 1)
quote_literal(x.t)
x.u < 'a'
x.u >= 'Ä'
min(x.t) over ()
max(y.t) over ()
row_number() over (order by x.t, x.k)
rank() over (order by y.u)
lag(x.t) over (order by x.k)
lag(x.i, 2, 0) over (order by x.k)
first_value(x.t) over (order by x.k)
last_value(x.t) over (order by x.k)
nth_value(x.t, 2) over (order by x.k)
ntile(3) over (order by x.k)
sum(x.i) over (order by x.j)
sum(x.n) over (order by x.k rows between 1 preceding and current row)
sum(x.n) over (order by x.j range between 1 preceding and 1 following)
count(*) over (partition by x.c)
count(*) over (partition by x.t)
count(*) over (partition by y.t)
avg(x.i) over (order by x.k)
dense_rank() over (order by x.n desc)
dense_rank() over (order by x.n)
percent_rank() over (order by x.k)
cume_dist() over (order by x.k)
sum(x.i) filter (where x.j > 1) over (order by x.k)
x.g = y.g
x.g < y.g
x.g::text
x.g = '00000000-0000-0000-0000-000000000001'
x.g = '{00000000-0000-0000-0000-000000000001}'
x.g::text like '0000%'
