"""Brokers as targets of the outbox: events arrive whole and in order, none is lost, and what fails is told apart."""

from __future__ import annotations

import asyncio
import datetime
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from faststream.nats import JStream

from fedorm import ConfigurationError, MissingDriverError
from fedorm.outbox.events import Event
from fedorm.relay.brokers import BrokerTarget
from fedorm.relay.brokers.address import Address
from fedorm.relay.targets import PartlyDeliveredError, TargetUnavailableError
from fedorm.testing.servers import KafkaServer, NATSServer, RabbitMQServer, RedisServer, Server
from tests.brokering import KINDS, Place, by_key, deliver, first_of_each

AT = datetime.datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=datetime.UTC)
FEDERATION: Any = None
"""A broker target asks nothing of it."""
NewPlace = Callable[[], Any]


@pytest.fixture(params=KINDS)
async def place(request: pytest.FixtureRequest) -> Place:
    place = Place(request.param, request.getfixturevalue(f"{request.param}_url"))
    await place.make()
    return place


@asynccontextmanager
async def opened(target: BrokerTarget) -> AsyncIterator[BrokerTarget]:
    try:
        await target.open(FEDERATION)
        yield target
    finally:
        await target.close()


def numbered(count: int, keys: int) -> list[Event]:
    return [
        Event("order.placed", key=f"k{number % keys}", data={"number": number}, at=AT, service="orders")
        for number in range(count)
    ]


ODD = [
    Event(
        "order.placed", key="7", data={"id": 7, "total": "12.50", "note": 'ä€𝄞 "%41"\r\nX: y'}, at=AT, service="orders"
    ),
    Event("order.shipped", key='["ä€𝄞 %41\\r\\n", 7]', data=[1, None, {"deep": []}], at=AT, service="orders"),
    Event("order.noted", key="a b\tc\r\nCe-Type: x", data="text", at=AT, service="orders"),
    Event("order.closed", data=None, service="orders"),
]


def by_type(event: Event) -> str:
    return event.type


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_events_arrive_whole(place: Place, mode: str) -> None:
    """A subscriber makes of each message the event that was sent, whatever its key and its data hold."""
    async with opened(place.target(mode=mode)) as target:
        await target.deliver(ODD)
        async with place.reading() as reader:
            assert sorted(await reader.until(len(ODD)), key=by_type) == sorted(ODD, key=by_type)


async def test_events_of_a_key_arrive_in_order(place: Place) -> None:
    """Batches at the same time, as several workers hand them on, keep each key's order, and nothing comes twice."""
    events = numbered(400, keys=20)
    parts = [[event for event in events if int(event.key[1:]) % 3 == part] for part in range(3)]
    async with place.reading() as reader, opened(place.target()) as target:
        await asyncio.gather(*(target.deliver(part) for part in parts))
        arrived = await reader.until(len(events))
    assert by_key(arrived) == by_key(events)


SERVERS: dict[str, Callable[[], Server]] = {
    "nats": NATSServer,
    "kafka": KafkaServer,
    "redis": lambda: RedisServer(durable=True),
    "rabbitmq": RabbitMQServer,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_broker_that_is_down_for_a_while_loses_nothing(kind: str) -> None:
    """It goes down amid a batch: what it has not confirmed comes again, in each key's order, when it is back."""
    events: list[Event] = []
    downs: list[Exception] = []

    async def write() -> None:
        while not downs:
            batch = numbered(400, keys=40)
            events.extend(batch)
            await deliver(target, batch, downs)

    with SERVERS[kind]() as server:
        place = Place(kind, server.url())
        await place.make()
        async with opened(place.target(timeout=2)) as target:
            writing = asyncio.create_task(write())
            await asyncio.sleep(0.1)
            # The Kafka server here would lose what it has just confirmed: it is frozen, and answers too late.
            await asyncio.to_thread(server.suspend if kind == "kafka" else server.kill)
            while not downs:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.resume if kind == "kafka" else server.restart)
            await writing
            events += (last := numbered(40, keys=40))
            await target.deliver(last)
        async with place.reading() as reader:
            arrived = await reader.until(len(events))
    assert by_key(first_of_each(arrived)) == by_key(events)


@pytest.mark.parametrize("kind", ["nats", "kafka", "redis"])
async def test_a_broker_that_is_not_there_yet(kind: str) -> None:
    """Opening says that it takes nothing at the moment; once it is there the same target works."""
    with SERVERS[kind]() as server:
        place = Place(kind, server.url())
        await place.make()
        await asyncio.to_thread(server.own.end, signal.SIGTERM, 20)
        target = place.target(timeout=2)
        with pytest.raises(TargetUnavailableError, match=r"127\.0\.0\.1:\d+.* takes no events at the moment"):
            await target.open(FEDERATION)
        await target.close()
        await asyncio.to_thread(server.restart)
        async with opened(target), place.reading() as reader:
            await target.deliver(ODD)
            assert {event.id for event in await reader.until(len(ODD))} == {event.id for event in ODD}


async def test_nothing_is_left_open(place: Place, no_stray_tasks: None) -> None:
    """Neither where events were delivered nor where the delivery was cancelled."""
    async with opened(place.target()) as target:
        await target.deliver(ODD)
    async with opened(place.target()) as target:
        handing = asyncio.create_task(target.deliver(numbered(2_000, keys=50)))
        await asyncio.sleep(0.02)
        handing.cancel()
        await asyncio.gather(handing, return_exceptions=True)


def refused_by(place: Place) -> tuple[dict[str, Any], Event]:
    """Return options of a target, and an event that its broker does not take."""
    large = Event("order.large", key="k1", data="x" * 2_000_000, at=AT, service="orders")
    if place.kind in ("nats", "kafka"):
        return {}, large

    def subject(event: Event) -> str:
        return f"{place.subject}_none" if event.type == "order.large" else place.subject

    return {"subject": subject}, Event("order.large", key="k1", data="", at=AT, service="orders")


async def test_an_event_that_the_broker_refuses(place: Place) -> None:
    """It is named, what is behind it in its key waits, and the other keys go on, none of them sent twice."""
    options, refused = refused_by(place)
    events = numbered(6, keys=3)
    events.insert(3, refused)
    if place.kind == "redis":
        from redis.asyncio import Redis

        async with Redis.from_url(place.url) as client:
            await client.set(f"{place.subject}_none", "no stream")
    async with place.reading() as reader, opened(place.target(**options)) as target:
        with pytest.raises(PartlyDeliveredError) as raised:
            await target.deliver(events)
        assert raised.value.delivered == 3
        assert refused.id in str(raised.value)
        assert "order.large" in str(raised.value)
        with pytest.raises(PartlyDeliveredError) as alone:
            await target.deliver([refused])
        assert alone.value.delivered == 0
        await target.deliver(events[4:])
        arrived = await reader.until(6)
    others = [event for event in events if event is not refused]
    assert by_key(arrived) == by_key(others)


async def test_a_subject_that_cannot_be(nats_url: str, kafka_url: str) -> None:
    """A key that would break the protocol, or is no topic, never gets there."""
    place = Place("nats", nats_url)
    bad = [Event("t", key=key, data=1) for key in ("a b", "a\r\nPUB x 1", "a.*", ">", "a..b")]
    async with opened(place.target(subject=place.subject + ".{key}")) as target:
        for event in bad:
            with pytest.raises(PartlyDeliveredError, match="NATS has no subject like"):
                await target.deliver([event])
    async with opened(BrokerTarget("*", kafka_url, subject="orders {key}")) as target:
        with pytest.raises(PartlyDeliveredError, match="Kafka has no topic like 'orders 1'"):
            await target.deliver([Event("t", key="1", data=1)])


async def test_nats_knows_an_event_again(nats_url: str) -> None:
    """An event that a relay sends a second time, as after a crash, is in the stream once."""
    place, events = Place("nats", nats_url), numbered(50, keys=5)
    for _ in range(2):
        async with opened(place.target()) as target:
            await target.deliver(events)
    async with place.broker() as broker:
        stream = await broker.connection.jetstream().stream_info(place.subject)
    assert stream.state.messages == 50


async def test_nats_without_the_stream(nats_url: str) -> None:
    """The target waits for it, and says what is missing."""
    target = BrokerTarget("*", nats_url, stream="MISSING_STREAM")
    with pytest.raises(TargetUnavailableError, match="has no stream 'MISSING_STREAM'"):
        await target.open(FEDERATION)
    await target.close()


async def test_redis_keeps_the_last_entries(redis_url: str) -> None:
    """``maxlen``: the stream does not grow for ever."""
    from redis.asyncio import Redis

    place = Place("redis", redis_url)
    async with opened(place.target(maxlen=100)) as target:
        for _ in range(3):
            await target.deliver(numbered(400, keys=400))
    async with Redis.from_url(redis_url) as client:
        assert 100 <= await client.xlen(place.subject) < 400


async def test_rabbitmq_by_an_exchange(rabbitmq_url: str) -> None:
    """The exchange leads events to queues by their routing key, as the broker's owner has bound them."""
    from faststream.rabbit import ExchangeType, RabbitExchange, RabbitQueue

    place = Place("rabbitmq", rabbitmq_url)
    exchange = RabbitExchange(f"{place.subject}_x", type=ExchangeType.TOPIC, durable=True)
    async with place.broker() as broker:
        queue = await broker.declare_queue(RabbitQueue(place.subject, durable=True))
        await queue.bind(await broker.declare_exchange(exchange), routing_key="orders.order.*")
    target = place.target(exchange=exchange, subject="{service}.{type}", name="by exchange")
    async with opened(target), place.reading() as reader:
        await target.deliver(ODD)
        assert sorted(await reader.until(len(ODD)), key=by_type) == sorted(ODD, key=by_type)
    async with opened(place.target(subject="unknown", mandatory=False)) as target:
        await target.deliver(ODD)
    async with opened(place.target(exchange="missing")) as target:
        with pytest.raises(TargetUnavailableError, match="no exchange 'missing'"):
            await target.deliver(ODD)


async def test_a_broker_object_of_the_application(place: Place) -> None:
    """One that is running is used as it is and goes on afterwards; FastStream's subscribers get the data as it is."""
    broker, got, done = place.broker(), [], asyncio.Event()

    async def take(body: Any) -> None:
        got.append(body)
        done.set()

    place.subscriber(broker)(take)
    async with place.started(broker):
        for _ in range(2):
            async with opened(place.target(broker=broker)) as target:
                await target.deliver(ODD[:1])
            assert broker.running
            async with asyncio.timeout(20):
                await done.wait()
        assert got[0] == ODD[0].data


@pytest.mark.parametrize("kind", ["nats", "redis", "rabbitmq"])
@pytest.mark.parametrize("is_there", [True, False], ids=["wrong password", "not there"])
async def test_a_password_is_in_no_error(
    kind: str, is_there: bool, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong one ends the relay with the reason; it is nowhere in messages, tracebacks, logs and reprs."""
    caplog.set_level("DEBUG")
    secret = "hiddenw0rd"
    server = request.getfixturevalue(f"{kind}_server")
    port = server.port if is_there else 1
    url = f"{Place(kind, server.url()).url.partition('://')[0]}://fedorm:{secret}@127.0.0.1:{port}"
    url = url.replace("fedorm", "") if kind == "redis" else url
    target = BrokerTarget("*", url, timeout=2, **Place(kind, url).options)
    expected = (ConfigurationError, "refuses its user") if is_there else (TargetUnavailableError, "takes no events")
    with pytest.raises(expected[0], match=expected[1]) as raised:
        await target.open(FEDERATION)
    await target.close()
    seen = "".join(traceback.format_exception(raised.value)) + repr(vars(raised.value)) + repr(target) + caplog.text
    assert secret not in seen
    assert f"127.0.0.1:{port}" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://u:p%40s,s@h:1,nats://v:q@i", "nats://u@h:1,nats://v@i"),
        ("nats://t0ken@h", "nats://***@h"),
        ("kafka://u:pass@h:1,i:2/", "kafka://u@h:1,i:2/"),
        ("rediss://:pass@h/1?password=pass", "rediss://@h/1"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    """No password, no token, no option; errors of drivers are rid of them too."""
    address = Address(url, "some")
    assert str(address) == shown
    for part in re.split(",(?=nats)", url):
        secret = part.partition("://")[2].rpartition("@")[0].rpartition(":")[2]
        assert address.scrub(f"cannot log in with {secret!r}") == "cannot log in with '***'"


def refused_settings() -> list[tuple[Sequence[Any], dict[str, Any], str]]:
    nats = "nats://127.0.0.1:1"
    return [
        (("*", "mqtt://u:hidden@h"), {}, "URL of scheme 'mqtt' is no broker .* known are nats://, tls://, kafka://"),
        (("*", object()), {}, "a object is no broker"),
        (("*", nats), {}, "say which JetStream stream"),
        (("*", nats), {"stream": "S", "subject": "shop.{table}"}, "names 'table'; known are {type}, {service}, {key}"),
        (("*", nats), {"stream": "S", "subject": "shop.{"}, "no template"),
        (("*", nats), {"stream": "S", "mode": "xml"}, 'mode is "binary" or "structured"'),
        (("*", "redis://:hidden@h"), {"stream": "S"}, "Redis does not have such an option"),
    ]


@pytest.mark.parametrize(("arguments", "options", "message"), refused_settings())
def test_settings_that_cannot_be(arguments: Sequence[Any], options: dict[str, Any], message: str) -> None:
    """They are refused when the target is made, without a password in the error."""
    with pytest.raises(ConfigurationError, match=message) as raised:
        BrokerTarget(*arguments, **options)
    assert "hidden" not in str(raised.value)


def test_targets_have_names() -> None:
    """By the kind and the subject, unless one is given."""
    stream = JStream("S", subjects=["s"])
    assert BrokerTarget("a.*", "nats://h", subject="shop.{type}", stream=stream).name == "nats:shop.{type}"
    made = BrokerTarget(["a", "b"], "kafka://h", name="mine")
    assert (made.name, made.types) == ("mine", ("a", "b"))


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("nats://h", "nats", "nats"),
        ("kafka://h", "aiokafka", "kafka"),
        ("redis://h", "redis", "redis-broker"),
        ("amqp://h", "aio_pika", "rabbitmq"),
    ],
)
def test_a_driver_that_is_not_installed(url: str, package: str, extra: str) -> None:
    """The error says what to install; nothing of the outbox needs it before that."""
    done = subprocess.run(
        [sys.executable, "-c", MISSING.format(url=url, package=package)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "False False",
        f"{MissingDriverError.__name__}: pip install 'fedorm[{extra}]'",
    ], done.stderr


MISSING = """
import sys
from fedorm.relay.brokers import BrokerTarget
from fedorm.relay.brokers.address import Address
print("faststream" in sys.modules, "{package}" in sys.modules)
sys.modules["{package}"] = None
try:
    BrokerTarget("*", "{url}")
except Exception as error:
    print(type(error).__name__ + ":", str(error).partition("run  ")[2])
"""
