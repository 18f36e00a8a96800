"""What PostgreSQL has and DuckDB has not, or means otherwise, in DuckDB's own words."""

from __future__ import annotations

MACROS = (
    # A quotient by zero is NULL in DuckDB.
    "fedorm_divisor(d) AS CASE WHEN d = 0 THEN error('division by zero') ELSE d END",
    # Parts before the first character count, too.
    "fedorm_substring(s, first, n) AS CASE WHEN n < 0 THEN error('negative substring length not allowed')"
    " WHEN first IS NOT NULL AND n IS NOT NULL"
    " THEN substring(s, greatest(first, 1), greatest(n + least(first - 1, 0), 0)) END",
    "fedorm_substring_from(s, first) AS CASE WHEN first IS NOT NULL THEN substring(s, greatest(first, 1)) END",
    "fedorm_overlay(s, put, first, n) AS left(s, first - 1) || put || substring(s, first + n)",
    # The shortest digits, with an exponent from 15 digits on.
    "fedorm_plain_text(x) AS CASE WHEN isnan(x) THEN 'NaN' WHEN isinf(x) THEN if(x > 0, 'Infinity', '-Infinity')"
    " WHEN x = 0 THEN '0' WHEN abs(x) >= 1e15 AND abs(x) < 1e16 THEN rtrim(rtrim(regexp_replace("
    "CAST(x AS VARCHAR), '^(-?\\d)(\\d+)\\.(\\d+)$', '\\1.\\2\\3'), '0'), '.') || 'e+15'"
    " ELSE regexp_replace(CAST(x AS VARCHAR), '\\.0$', '') END",
    "fedorm_float_text(x) AS CASE WHEN x IS NOT NULL THEN fedorm_plain_text(CAST(x AS DOUBLE)) END",
    # A decimal of a float has the float's 15 digits.
    "fedorm_checked_decimal(d, x) AS CASE WHEN CAST(d AS DOUBLE) = CAST(x AS DOUBLE) OR d IS NULL THEN d"
    " ELSE error('the number needs more than 20 digits after the point: cast it to numeric(precision, scale)') END",
    "fedorm_decimal(x) AS fedorm_checked_decimal(CAST(printf('%.15g', CAST(x AS DOUBLE)) AS DECIMAL(38, 20)),"
    " printf('%.15g', CAST(x AS DOUBLE)))",
    "fedorm_boolean_text(b) AS CASE WHEN b THEN 't' WHEN NOT b THEN 'f' END",
    "fedorm_char(s, n) AS rtrim(left(s, n), ' ')",
    # Arrays: what is before the first element is NULL, an empty one has no length.
    "fedorm_element(a, n) AS CASE WHEN n >= 1 THEN a[n] END",
    "fedorm_array_length(a) AS nullif(len(a), 0)",
    "fedorm_array_cat(a, b) AS CASE WHEN a IS NULL THEN b WHEN b IS NULL THEN a ELSE list_concat(a, b) END",
    "fedorm_array_remove(a, v) AS list_filter(a, lambda one : one IS DISTINCT FROM v)",
    "fedorm_string_to_array(s, d) AS CASE WHEN s = '' THEN [] ELSE string_split(s, d) END",
    "fedorm_json_typeof(j) AS CASE json_type(j) WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array'"
    " WHEN 'VARCHAR' THEN 'string' WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null' WHEN NULL THEN NULL"
    " ELSE if(j IS NULL, NULL, 'number') END",
    "fedorm_matched(s, p, part) AS CASE WHEN regexp_matches(s, p) THEN regexp_extract(s, p, part) END",
    "fedorm_quoted(s) AS '''' || replace(s, '''', '''''') || ''''",
)
"""Macros, each with its name and its parameters."""
