"""A search by relevance in Elasticsearch's words, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from elasticsearch import dsl

from fedorm.stores.elasticsearch_mapping import fields_of
from fedorm.stores.searching import Search, SearchHit, SearchResult


def search_body(model: type[Any], wanted: Search) -> dict[str, Any]:
    """Return the body of a search.

    A text is looked for in all fields of the class that hold texts to be searched, as ``simple_query_string`` has it.
    A ``Search`` of ``elasticsearch.dsl`` is taken as it is; what is said beside it comes in addition.
    """
    given = wanted.query
    body: dict[str, Any] = {"size": wanted.size, "from": wanted.offset, "track_total_hits": True}
    body["seq_no_primary_term"] = True
    if isinstance(given, str):
        body["query"] = {"simple_query_string": {"query": given, "fields": searched_fields(model)}}
    elif isinstance(given, dsl.AsyncSearch | dsl.Search):
        body |= given.to_dict()
    elif given is not None:
        body["query"] = given.to_dict() if hasattr(given, "to_dict") else given
    if wanted.sort:
        body["sort"] = [_order(one) for one in wanted.sort]
    if wanted.highlight:
        body["highlight"] = {"fields": {str(name): {} for name in wanted.highlight}}
    if wanted.aggregations:
        made = {name: one.to_dict() if hasattr(one, "to_dict") else one for name, one in wanted.aggregations.items()}
        body["aggs"] = body.get("aggs", {}) | made
    body.pop("_source", None)  # Documents are whole.
    return body | dict(wanted.more)


def searched_fields(model: type[Any]) -> list[str]:
    """Return the fields that are analyzed as texts, those within included; all others when there is none."""
    fields = fields_of(model)  # type: ignore[arg-type] # mypy does not take a class for hashable
    found = [path for path, field in _paths(fields) if isinstance(field, dsl.Text)]
    return found or ["*"]


def _paths(fields: Mapping[str, dsl.Field], within: str = "") -> list[tuple[str, dsl.Field]]:
    found = []
    for name, field in fields.items():
        found.append((f"{within}{name}", field))
        if isinstance(field, dsl.Object) and not isinstance(field, dsl.Nested):
            inner = {one: field._mapping[one] for one in field._mapping}
            found += _paths(inner, f"{within}{name}.")
    return found


def _order(one: Any) -> Any:
    if not isinstance(one, str) or one.startswith("_"):
        return one
    return {one.lstrip("-+"): {"order": "desc" if one.startswith("-") else "asc"}}


def result_of(answer: Mapping[str, Any], raw_of: Callable[[Mapping[str, Any]], dict[str, Any]]) -> SearchResult[Any]:
    """Return what an answer holds, each document as ``raw_of`` makes it."""
    hits = answer["hits"]
    found = [SearchHit(raw_of(hit), hit.get("_score"), hit.get("highlight", {})) for hit in hits["hits"]]
    total = hits.get("total")
    return SearchResult(
        found,
        None if total is None else int(total["value"]),
        total is not None and total["relation"] == "eq",
        answer.get("aggregations", {}),
    )
