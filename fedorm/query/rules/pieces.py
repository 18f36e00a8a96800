"""Which whole queries inside a statement one service can answer by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

Takes = Callable[[str], bool]
"""Whether a service may be sent whole queries: whether it means by them what PostgreSQL means."""


def single_service(query: exp.Query, takes: Takes) -> str | None:
    """Return the service that owns every table of a self-contained query, if it takes whole queries."""
    ctes = {cte.alias for cte in query.find_all(exp.CTE)}
    services = set()
    for table in query.find_all(exp.Table):
        if table.db:
            services.add(table.db)
        elif table.name not in ctes:
            return None  # Of a WITH further out.
    if len(services) != 1:
        return None
    service: str = services.pop()
    return service if takes(service) and not _is_correlated(query) else None


def _is_correlated(query: exp.Query) -> bool:
    inside = {node.alias_or_name for node in query.find_all(exp.Table, exp.Subquery, exp.CTE) if node.alias_or_name}
    return any(column.table and column.table not in inside for column in query.find_all(exp.Column))


def outermost(query: exp.Query, takes: Takes) -> Iterator[tuple[exp.Query, str]]:
    """Yield the largest queries below ``query``, itself left out, that one service answers; none inside another."""
    for child in _direct_queries(query):
        service = single_service(child, takes)
        if service is not None:
            yield child, service
        else:
            yield from outermost(child, takes)


def _direct_queries(query: exp.Query) -> Iterator[exp.Query]:
    """Yield the queries below ``query`` that no other one below it contains."""
    stack: list[exp.Expr] = list(query.iter_expressions())
    while stack:
        node = stack.pop()
        if isinstance(node, exp.Select | exp.SetOperation):
            yield node
        else:
            stack.extend(node.iter_expressions())
