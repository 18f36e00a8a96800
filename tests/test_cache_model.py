"""Whatever sessions write, commit, roll back and read: a cached read is what an uncached one would be."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, literal_column, select, text

from fedorm import FederatedSession, Federation
from fedorm.catalog import catalog
from tests.models import Order, User

WRITES: dict[str, Any] = {
    "add": lambda session, model, id_: session.add(made(model, id_)),
    "insert": lambda session, model, id_: session.execute(insert(model), [{"id": id_, **others(model, id_)}]),
    "text": lambda session, model, id_: session.execute(
        text(f"INSERT INTO {model.__tablename__} ({', '.join(['id', *others(model, id_)])}) "
             f"VALUES ({', '.join(map(repr, [id_, *others(model, id_).values()]))})"),
        bind_arguments={"service": model.__service__},
    ),
}  # fmt: skip


def others(model: type[Any], id_: int) -> dict[str, Any]:
    return {"email": f"u{id_}", "country": "DE"} if model is User else {"user_id": id_, "total": id_}


def made(model: type[Any], id_: int) -> Any:
    return model(id=id_, **others(model, id_))


PAIRS = select(User.id, Order.id).join(Order, Order.user_id != User.id)
READS: dict[str, Any] = {
    "users": lambda session: session.scalars(select(User.id), execution_options={"cache_ttl": 300}),
    "entities": lambda session: [
        user.id for user in session.scalars(select(User), execution_options={"cache_ttl": 300}).all()
    ],
    "orders": lambda session: session.scalars(
        text("SELECT id FROM orders"), bind_arguments={"service": "orders"}, execution_options={"cache_ttl": 300}
    ),
    "vague": lambda session: session.scalars(
        select(literal_column("id")).select_from(text("(SELECT id FROM orders) o")),
        bind_arguments={"service": "orders"},
        execution_options={"cache_ttl": 300},
    ),
    "both": lambda session: map(tuple, session.execute(PAIRS, execution_options={"cache_ttl": 300})),
}

steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(
            st.tuples(st.sampled_from(sorted(WRITES)), st.sampled_from([User, Order])),
            st.tuples(st.sampled_from(["commit", "rollback", "savepoint"]), st.none()),
            st.tuples(st.sampled_from(sorted(READS)), st.none()),
            st.tuples(st.sampled_from(sorted(READS)), st.none()),
        ),
    ),
    max_size=14,
)


def test_cached_reads_are_true(urls: dict[str, str]) -> None:
    """Two sessions take turns; what each sees is what is committed and its own."""
    with Federation({name: urls[name] for name in ("users", "orders")}) as fed:
        for name in ("users", "orders"):
            catalog.metadata(name).create_all(fed.stores[name].sync_engine)  # type: ignore[attr-defined]

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(steps)
        def run(script: list[tuple[int, tuple[str, Any]]]) -> None:
            with fed.sync_session() as session:
                session.execute(delete(User))
                session.execute(delete(Order))
                session.commit()
            with fed.sync_session() as one, fed.sync_session() as other:
                play(script, [one, other])

        run()
        assert fed.stats().cache.hits > 50


def play(script: list[tuple[int, tuple[str, Any]]], sessions: list[FederatedSession]) -> None:
    committed: set[tuple[type[Any], int]] = set()
    own: list[set[tuple[type[Any], int]]] = [set(), set()]
    for number, (turn, (name, model)) in enumerate(script):
        session = sessions[turn]
        if name in WRITES:
            WRITES[name](session, model, number)
            own[turn].add((model, number))
        elif name == "savepoint":
            with session.begin_nested() as nested:
                session.add(made(Order, 1000 + number))
                session.flush()
                nested.rollback()
        elif name == "commit":
            session.commit()
            committed |= own[turn]
            own[turn] = set()
        elif name == "rollback":
            session.rollback()
            own[turn] = set()
        else:
            session.flush()
            seen = committed | own[turn]
            users, orders = ({id_ for kind, id_ in seen if kind is model} for model in (User, Order))
            pairs = {(user, order) for user in users for order in orders}
            expected: Any = {"users": users, "entities": users, "both": pairs}.get(name, orders)
            assert sorted(READS[name](session)) == sorted(expected), (name, number)
