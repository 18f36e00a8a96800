"""A join in parentheses becomes a query of its own, so that all other rules meet plain tables and queries alone.

``a LEFT JOIN (b JOIN c ON …) ON …`` is what SQLAlchemy writes for an outer join through an association table. Neither
sqlglot's rules nor ours see that such a join makes the rows of ``b`` and ``c`` optional.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.optimizer.scope import Scope, traverse_scope


def derive_nested_joins(tree: exp.Query) -> exp.Query:
    """Write every join in parentheses as a derived table; the columns of ``tree`` have to be qualified.

    A column ``b.x`` is called ``b__x`` in the derived table. The tree is changed in place.
    """
    while any(_is_nested(node) for node in tree.find_all(exp.Subquery)):
        for scope in traverse_scope(tree):
            nested = next((node for node in _sources(scope.expression) if _is_nested(node)), None)
            if nested is not None:
                _derive(scope, nested)
                break
        else:  # A join in parentheses elsewhere than in a select's FROM.
            break
    return tree


def _is_nested(node: exp.Expr) -> bool:
    return isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and not node.alias


def _sources(select: exp.Expr) -> list[exp.Expr]:
    start = select.args.get("from_") or select.args.get("from")
    joins = select.args.get("joins") or ()
    return [clause.this for clause in (start, *joins) if clause is not None]


def _derive(scope: Scope, nested: exp.Expr) -> None:
    first = nested.this
    inside = {id(column) for column in nested.find_all(exp.Column)}
    members = set(_members(nested))
    name = _free_name(scope)
    joins = first.args.get("joins") or []
    first.set("joins", None)
    query = exp.Select().from_(first.copy())
    query.set("joins", [join.copy() for join in joins])
    outputs: dict[str, exp.Expr] = {}
    for column in scope.columns:
        if column.table in members and id(column) not in inside:
            output = f"{column.table}__{column.name}"
            outputs.setdefault(output, exp.alias_(column.copy(), output, quoted=True))
            column.set("this", exp.to_identifier(output, quoted=True))
            column.set("table", exp.to_identifier(name, quoted=True))
    one = exp.alias_(exp.Literal.number(1), "fedorm__one", quoted=True)
    query = query.select(*(outputs.values() or [one]), copy=False)
    nested.replace(exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(name, quoted=True))))


def _members(node: exp.Expr) -> Iterator[str]:
    """Yield the aliases of what is joined inside of parentheses."""
    if not _is_nested(node):
        yield node.alias_or_name
        return
    yield node.this.alias_or_name
    for join in node.this.args.get("joins") or ():
        yield from _members(join.this)


def _free_name(scope: Scope) -> str:
    taken = {node.name for node in scope.expression.root().find_all(exp.Identifier)}
    return next(name for number in range(len(taken) + 1) if (name := f"nested_{number}") not in taken)
