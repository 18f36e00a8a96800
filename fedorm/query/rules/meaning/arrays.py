"""Arrays, and documents of JSON."""

from __future__ import annotations

import re

from sqlglot import exp

from fedorm.query.rules.meaning.writing import call, refused, text
from fedorm.query.rules.typing import kind_of


def element(node: exp.Expr) -> exp.Expr:
    """Index an array from 1 on: what is before is NULL, and not counted from the end."""
    (index,) = node.expressions if len(node.expressions) == 1 else (None,)
    if index is None or isinstance(index, exp.Slice) or kind_of(node.this) != exp.DType.ARRAY:
        return node
    if isinstance(index, exp.Literal) and index.is_int:
        return node  # From 0 on here: it is written with one more.
    wanted = index.copy()
    if not any(True for _ in index.find_all(exp.Column, exp.Placeholder, exp.Func)):
        wanted = exp.Add(this=wanted, expression=exp.Literal.number(1))  # Read as one less, too.
    return call("fedorm_element", node.this.copy(), wanted)


def array_length(node: exp.Expr) -> exp.Expr:
    """Return the length of an array's only dimension; an empty array has none."""
    dimension = node.args.get("expression")
    if dimension is not None and dimension != exp.Literal.number(1):
        raise refused(node, ": arrays have one dimension there")
    return call("fedorm_array_length", node.this.copy())


def remove(node: exp.Expr) -> exp.Expr:
    """Take elements out of an array; NULL is another value than any of them."""
    return call("fedorm_array_remove", node.this.copy(), node.args["expression"].copy())


def concat_arrays(node: exp.Expr) -> exp.Expr:
    """Put arrays together; NULL adds nothing."""
    made: exp.Expr = node.this.copy()
    for other in node.expressions:
        made = call("fedorm_array_cat", made, other.copy())
    return made


def split(node: exp.Expr) -> exp.Expr:
    """Split a text; an empty one has no parts."""
    if node.args.get("null") is not None:
        raise refused(node)
    return call("fedorm_string_to_array", node.this.copy(), node.args["expression"].copy())


def json_path(node: exp.Expr) -> exp.Expr:
    """Follow a path of names and numbers."""
    path = node.args["expression"]
    found = re.fullmatch(r'\{([^{}"\\]*)\}', str(path.this)) if isinstance(path, exp.Literal) else None
    if found is None:
        raise refused(node, ": write the path as a constant, or as a chain of -> and ->>")
    steps = [step.strip().replace("~", "~0").replace("/", "~1") for step in found[1].split(",") if step]
    name = "json_extract_string" if isinstance(node, exp.JSONBExtractScalar) else "json_extract"
    return call(name, node.this.copy(), text("".join(f"/{step}" for step in steps)))


def json_from_end(node: exp.Expr) -> exp.Expr:
    """Count from the end of an array."""
    path = node.args["expression"]
    if isinstance(path, exp.Neg) and isinstance(path.this, exp.Literal):
        name = "json_extract_string" if isinstance(node, exp.JSONExtractScalar) else "json_extract"
        return call(name, node.this.copy(), text(f"$[#-{path.this.name}]"))
    return node
