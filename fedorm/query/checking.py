"""Lets DuckDB look at a finish before anything is read: whether its functions are there, and their arguments fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

import duckdb
import pyarrow as pa
from sqlalchemy import types
from sqlglot import exp

from fedorm.exc import UnknownFunctionError, UnsupportedQueryError
from fedorm.query.arrow import arrow_type
from fedorm.query.plan import Piece, Plan, Step
from fedorm.query.rules.typing import FLOATS, INTEGERS, TEXTS, kind_of
from fedorm.query.tables import storage_type

_MISSING = re.compile(r'Function with name "?(?P<name>\w+)"? does not exist')
_OPEN_LIMIT = re.compile(r"\b(LIMIT|OFFSET) \$\w+")
"""Without its value, DuckDB does not look at one of a correlated query."""
_TYPES: Mapping[exp.DType, pa.DataType] = {
    **dict.fromkeys(INTEGERS, pa.int64()),
    **dict.fromkeys(FLOATS, pa.float64()),
    **dict.fromkeys(TEXTS, pa.string()),
    exp.DType.BOOLEAN: pa.bool_(),
    exp.DType.DATE: pa.date32(),
    exp.DType.TIMESTAMP: pa.timestamp("us"),
    exp.DType.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    exp.DType.DECIMAL: pa.decimal128(38, 10),
}


def check_finish(plan: Plan, connection: duckdb.DuckDBPyConnection) -> None:
    """Bind the finish of a plan over empty tables of its steps' types.

    Raises ``UnknownFunctionError`` with the nearest names, and ``UnsupportedQueryError`` for types that do not fit.
    """
    if plan.finish is None:
        return
    is_known = True
    for step in plan.steps:
        columns = _columns(step)
        is_known &= None not in columns.values()
        arrays = [pa.array([], pa.string() if kind is None else kind) for kind in columns.values()]
        connection.register(step.name, pa.Table.from_arrays(arrays, names=list(columns)))
    finish = _OPEN_LIMIT.sub(r"\1 1", plan.finish)
    try:
        connection.execute(exp.Command(this="PREPARE", expression=f"fedorm_finish AS {finish}").sql("duckdb"))
    except duckdb.CatalogException as error:
        found = _MISSING.search(str(error))
        if found is None:
            raise _refused(error) from error
        raise UnknownFunctionError(found["name"], near=_near(found["name"], connection)) from error
    except (duckdb.ParserException, duckdb.BinderException) as error:
        # A parameter has its type, and is a constant, when the statement runs.
        of_parameters = plan.parameters and re.search("parameter|constant", str(error), re.IGNORECASE)
        if is_known and not of_parameters:
            raise _refused(error) from error
    except duckdb.Error:
        pass  # Of values: they are other ones when it runs.


def _refused(error: Exception) -> UnsupportedQueryError:
    return UnsupportedQueryError(f"the statement cannot be finished: {str(error).splitlines()[0]}")


def _near(name: str, connection: duckdb.DuckDBPyConnection) -> list[str]:
    known = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions()").fetchall()
    names = [str(one) for (one,) in known if not str(one).startswith("fedorm_")]
    return difflib.get_close_matches(name.lower(), names, n=3)


def _columns(step: Step) -> dict[str, pa.DataType | None]:
    """Return the types of a step's columns, None where only its rows will tell."""
    if isinstance(step, Piece):
        outputs = step.query.selects
        return {
            name: _known(kind) if kind is not None else _TYPES.get(kind_of(output.unalias()))
            for name, kind, output in zip(step.columns, step.kinds, outputs, strict=True)
        }
    return {name: _known(step.table.c[name].type) for name in step.columns}


def _known(kind: types.TypeEngine[object]) -> pa.DataType | None:
    return arrow_type(storage_type(kind))
