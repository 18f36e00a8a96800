"""What the annotation of a relationship says: its target, and whether there are many."""

from __future__ import annotations

import ast
import types
import typing
from typing import Any


def read_annotation(annotation: Any) -> tuple[Any, bool]:
    """Return the target, a class or a name, and whether the annotation says ``list``."""
    if annotation is None:
        return None, False
    if isinstance(annotation, typing.ForwardRef):
        return read_annotation(annotation.__forward_arg__)
    if isinstance(annotation, str):
        return _read_text(ast.parse(annotation, mode="eval").body)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return annotation, False
    if origin in (typing.Union, types.UnionType):
        return read_annotation(next(arg for arg in arguments if arg is not type(None)))
    target, many = read_annotation(arguments[0])
    return target, many or origin is list


def _read_text(node: ast.expr) -> tuple[str | None, bool]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _read_text(ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.Subscript):
        target, many = _read_text(node.slice)
        return target, many or ast.unparse(node.value).rpartition(".")[2] in ("list", "List")
    if isinstance(node, ast.BinOp):  # "User | None"
        side = node.left if not (isinstance(node.left, ast.Constant) and node.left.value is None) else node.right
        return _read_text(side)
    return ast.unparse(node), False


def target_name(argument: Any) -> str | None:
    """Return the class name that a plain ``relationship()`` was given, None when it is not a name yet."""
    return read_annotation(argument)[0] if isinstance(argument, str | typing.ForwardRef) else None
