"""What a statement means in PostgreSQL, in the words with which DuckDB means the same.

Each rule takes one node, whose own nodes have been through the rules, and returns what to write in its place. The types
of the nodes are PostgreSQL's; see ``macros`` for the functions that DuckDB does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from sqlglot import exp

from fedorm.query.rules.meaning import arrays, casts, comparisons, numbers, scales, texts, times
from fedorm.query.rules.meaning.writing import call, not_null, refused
from fedorm.query.rules.typing import CHARS, kind_of, width_of

Rule = Callable[[exp.Expr], exp.Expr]


def for_finish(tree: exp.Query, lists: Container[str]) -> exp.Query:
    """Return a statement for DuckDB; ``lists`` names the parameters that hold a list of values.

    Raises ``UnsupportedQueryError`` for what has no counterpart.
    """
    made: exp.Query = tree.copy()
    padded = _padded_outputs(made)
    scales.one_scale_of_branches(made)
    numbers.one_zero(made)
    for node in reversed(list(made.bfs())):  # Those inside come before those around them.
        if isinstance(node, exp.In) and len(node.expressions) == 1 and _is_list(node.expressions[0], lists):
            node.replace(exp.EQ(this=node.this, expression=exp.Any(this=exp.Paren(this=node.expressions[0]))))
            continue
        rule = _RULES.get(type(node))
        if rule is None:
            continue
        parent, key, index, kind = node.parent, node.arg_key, node.index, node.type
        new = rule(node)
        if new is node:
            continue
        new.type = kind
        if parent is not None:
            parent.set(key or "", new, index)
    for output, width in padded:
        value = output.unalias()
        if isinstance(output, exp.Alias):
            output.set("this", call("rpad", value, exp.Literal.number(width), exp.Literal.string(" ")))
    return made


def _is_list(node: exp.Expr, lists: Container[str]) -> bool:
    return isinstance(node, exp.Placeholder) and str(node.this) in lists


def _padded_outputs(tree: exp.Expr) -> list[tuple[exp.Expr, int]]:
    """Return the outputs that PostgreSQL fills up with spaces, and how wide they are."""
    if not isinstance(tree, exp.Select):
        return []
    return [(output, width_of(output.unalias())) for output in tree.selects if kind_of(output.unalias()) in CHARS]


def _named(node: exp.Expr) -> exp.Expr:
    name, arguments = node.name.lower(), node.expressions
    if name in ("array_upper", "array_length"):
        if len(arguments) != 2 or arguments[1] != exp.Literal.number(1):
            raise refused(node, ": arrays have one dimension there")
        return call("fedorm_array_length", arguments[0].copy())
    if name == "regexp_match" and len(arguments) == 2 and isinstance(arguments[1], exp.Literal):
        if re.compile(str(arguments[1].this)).groups > 1:
            raise refused(node, ": it may have one group there")
        pattern = texts.substring(exp.Substring(this=arguments[0].copy(), start=arguments[1].copy()))
        found = exp.Array(expressions=[pattern])
        return exp.Case(ifs=[exp.If(this=not_null(pattern), true=found)])
    if name in _REFUSED:
        raise refused(node, _REFUSED[name])
    renamed = _RENAMED.get(name)
    return call(renamed, *(one.copy() for one in arguments)) if renamed is not None else node


_RENAMED = {
    "every": "bool_and",
    "octet_length": "strlen",
    "cardinality": "len",
    "json_typeof": "fedorm_json_typeof",
    "jsonb_typeof": "fedorm_json_typeof",
    "json_build_object": "json_object",
    "jsonb_build_object": "json_object",
    "quote_literal": "fedorm_quoted",
}
_REFUSED = {
    "regexp_matches": ": write ~ for whether a text matches, regexp_match() for what does",
    "regexp_match": ": write the pattern as a constant",
    "row_to_json": ": name the columns",
    "setseed": "",
    "xmlelement": "",
}
"""Functions that DuckDB does not have, or takes for something else."""


def _refuse(node: exp.Expr) -> exp.Expr:
    raise refused(node)


_RULES: dict[type[exp.Expr], Rule] = {
    exp.Div: numbers.divide,
    exp.Mod: numbers.modulo,
    exp.IntDiv: numbers.whole_quotient,
    exp.Round: numbers.rounded,
    exp.Hex: numbers.hexadecimal,
    exp.Like: texts.like,
    exp.ILike: texts.like,
    exp.SimilarTo: texts.similar,
    exp.Substring: texts.substring,
    exp.Overlay: texts.overlay,
    exp.Concat: texts.concat,
    exp.ConcatWs: texts.concat,
    exp.DPipe: texts.concatenate,
    exp.Column: texts.char_column,
    exp.Chr: texts.character,
    exp.TimeToStr: texts.time_format,
    exp.StrToDate: texts.time_format,
    exp.StrToTime: texts.time_format,
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), comparisons.compare),
    exp.In: comparisons.among,
    exp.Between: comparisons.between,
    exp.Is: comparisons.is_truth,
    **dict.fromkeys((exp.Coalesce, exp.Case, exp.If, exp.Greatest, exp.Least), scales.one_scale),
    exp.Add: times.shift,
    exp.Sub: times.shift,
    exp.TimestampTrunc: times.truncate,
    exp.Extract: times.extract,
    exp.MakeInterval: times.interval,
    exp.GenerateSeries: times.series,
    exp.ExplodingGenerateSeries: times.series,
    exp.Cast: casts.cast,
    exp.Bracket: arrays.element,
    exp.ArraySize: arrays.array_length,
    exp.ArrayRemove: arrays.remove,
    exp.ArrayConcat: arrays.concat_arrays,
    exp.StringToArray: arrays.split,
    exp.JSONBExtract: arrays.json_path,
    exp.JSONBExtractScalar: arrays.json_path,
    exp.JSONExtract: arrays.json_from_end,
    exp.JSONExtractScalar: arrays.json_from_end,
    exp.Anonymous: _named,
    exp.Parameter: _refuse,
    exp.Format: _refuse,
    exp.JSONBContainsTopKey: _refuse,
    exp.JSONArrayAgg: _refuse,
}
