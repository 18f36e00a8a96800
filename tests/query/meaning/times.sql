-- Dates, times and intervals
x.d + 1
x.d - 31
x.d - y.d
x.d + interval '1 month'
x.d - interval '1 month'
x.d + interval '1 day 2 hours'
x.ts + interval '90 minutes'
x.ts - y.ts
x.ts - x.d
x.tz - y.tz
x.tz + interval '1 day'
x.d + x.j * interval '1 day'
x.d + make_interval(days => x.j)
age(x.d, y.d)
age(x.ts, y.ts)
extract(year from x.d)
extract(epoch from x.ts)
extract(epoch from x.tz)
extract(dow from x.d)
extract(isodow from x.d)
extract(week from x.d)
extract(isoyear from x.d)
extract(doy from x.d)
extract(quarter from x.d)
extract(second from x.ts)
extract(milliseconds from x.ts)
extract(microseconds from x.ts)
extract(hour from x.tz)
extract(century from x.d)
extract(decade from x.d)
extract(epoch from x.ts - y.ts)
extract(day from x.ts - y.ts)
date_part('year', x.d)
date_part('second', x.ts)
date_trunc('month', x.d)
date_trunc('month', x.ts)
date_trunc('hour', x.tz)
date_trunc('day', x.tz)
date_trunc('week', x.ts)
date_trunc('day', x.tz, 'Europe/Berlin')
to_char(x.d, 'YYYY-MM-DD')
to_char(x.ts, 'YYYY-MM-DD HH24:MI:SS')
to_char(x.ts, 'HH12:MI AM')
to_char(x.ts, 'Mon DD, YYYY')
to_char(x.ts, 'FMMonth FMDD')
to_char(x.ts, 'IYYY-IW')
to_char(x.ts, 'MS US')
to_date('2024-03-01', 'YYYY-MM-DD') - x.d
to_timestamp(x.j)
to_timestamp('2024-03-01 10:00', 'YYYY-MM-DD HH24:MI')
x.ts at time zone 'Europe/Berlin'
x.tz at time zone 'Europe/Berlin'
x.tz at time zone 'UTC'
y.tz at time zone 'America/New_York'
x.ts::date
x.tz::date
x.d::timestamp
x.d::timestamptz
x.ts::timestamptz
x.tz::timestamp
x.ts::time
x.d = x.ts
x.ts = x.tz
x.d < x.tz
x.d = '2024-01-31'
x.ts > '2024-02-01'
x.d > date '2024-01-01' + interval '1 month'
make_date(2024, x.j + 3, 1)
make_timestamp(2024, 1, 2, 3, 4, 5.5)
'infinity'::date > x.d
'infinity'::timestamp
'-infinity'::date
'0044-03-15 BC'::date < x.d
current_date - current_date
now() - now()
(now() > x.tz)
current_timestamp > x.tz
localtimestamp > x.ts
interval '1 day' * 2
interval '36 hours'
interval '1 month' > interval '29 days'
greatest(x.d, y.d)
greatest(x.d, x.ts)
x.d between '2024-01-01' and '2024-12-31'
date_bin('15 minutes', x.ts, timestamp '2001-01-01')
isfinite(x.d)
x.ts::text
(x.ts - y.ts)::text
(x.d + interval '1 month')::date
x.tz::text
timestamp '2024-01-01 10:00:00' - x.ts
time '10:00' + interval '1 hour'
