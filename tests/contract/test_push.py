"""Push subscriptions against a real HTTP server: what it is sent, and what its answers do."""

import asyncio
import base64
import json
import random
import secrets
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

import streamflow as sf
from streamflow.base.errors import DataError, NotFoundError, PipelineError
from streamflow.topics.client import Client
from streamflow.topics.client.window import Window

pytestmark = pytest.mark.contract
PROGRAM = Path(__file__).with_name("killed_client.py")


class Endpoint:
    """Notes what it gets, and answers what `answer` says."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.texts: list[str] = []
        self.attempts: list[int] = []
        self.url = ""
        self.answer: Callable[[str], Awaitable[int]] = self.ok

    async def ok(self, text: str) -> int:
        return 204

    async def handle(self, given: web.Request) -> web.Response:
        body = await given.read()
        self.requests.append((dict(given.headers), body))
        text = body.decode()
        if given.content_type == "application/json":
            document = await given.json()
            text = base64.b64decode(document["message"]["data"]).decode()
            self.attempts.append(document["deliveryAttempt"])
        self.texts.append(text)
        return web.Response(status=await self.answer(text))

    async def __aenter__(self) -> "Endpoint":
        application = web.Application()
        application.router.add_post("/in", self.handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/in"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest.fixture(params=["memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return f"memory://{secrets.token_hex(4)}" if request.param == "memory" else tmp_path / "log"


@pytest.fixture
def with_push(url: str | Path) -> Callable[..., None]:
    """Runs a story with a client, topic "t", pushed subscription "s" and its endpoint."""

    def run(story: Callable[[Client, Endpoint], Awaitable[None]], **settings) -> None:
        async def whole() -> None:
            async with Endpoint() as endpoint, sf.connect(url) as client:
                await client.create_topic("t", partitions=2)
                await client.create_topic("dead", partitions=1)
                config = sf.PushConfig(endpoint.url, **settings.pop("config", {}))
                await client.create_subscription("s", "t", sf.SubscriptionSettings(push=config, **settings))
                await asyncio.wait_for(story(client, endpoint), 30)

        asyncio.run(whole())

    return run


async def publish(client: Client, *texts: str, key: str = "", **attributes: str) -> None:
    async with client.publisher("t") as publisher:
        for text in texts:
            await publisher.publish(text.encode(), ordering_key=key, attributes=attributes or None)


async def push_all(client: Client, **options) -> None:
    """Until there is no backlog."""
    pushing = asyncio.create_task(client.push("s", **options))
    while (await client.backlog("s")).events and not pushing.done():
        await asyncio.sleep(0.01)
    await stop(pushing)


async def stop(pushing: asyncio.Task) -> None:
    pushing.cancel()
    with suppress(asyncio.CancelledError):
        await pushing


def test_wrapped_body_is_googles(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        async with client.publisher("t") as publisher:
            id = await publisher.publish(b"\xc3\xa9{", ordering_key="k", attributes={"a": "b"})
        await push_all(client, token=lambda config: f"for {config.oidc.email} at {config.audience}")
        [(headers, body)] = endpoint.requests
        document = json.loads(body)
        time = document["message"].pop("publishTime")
        assert time == document["message"].pop("publish_time")
        assert (time[10], time[-1]) == ("T", "Z")
        assert document == {
            "message": {
                "data": base64.b64encode(b"\xc3\xa9{").decode(),
                "attributes": {"a": "b"},
                "messageId": id,
                "message_id": id,
                "orderingKey": "k",
            },
            "subscription": "s",
            "deliveryAttempt": 1,
        }
        assert headers["Authorization"] == f"Bearer for me@example.com at {endpoint.url}"
        assert (headers["X-Own"], headers["Content-Type"]) == ("1", "application/json")

    with_push(story, config={"oidc": sf.Oidc("me@example.com"), "headers": {"X-Own": "1"}})


def test_unwrapped_body_is_the_data_with_metadata_in_headers(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        await publish(client, "plain", key="k", colour="red", odd="line\nbreak", **{"no header": "x"})
        await push_all(client)
        [(headers, body)] = endpoint.requests
        assert body == b"plain"
        named = {name.removeprefix("x-goog-pubsub-"): value for name, value in headers.items() if "goog" in name}
        assert named.keys() == {"subscription-name", "message-id", "publish-time", "ordering-key"}
        assert (named["subscription-name"], named["ordering-key"]) == ("s", "k")
        assert headers["colour"] == "red"
        assert not {"odd", "no header"} & headers.keys()

    with_push(story, config={"wrapped": False, "write_metadata": True})


def test_only_googles_statuses_ack(with_push):
    statuses = [200, 201, 202, 204, 203, 301, 400, 404, 429, 500, 503]

    async def story(client: Client, endpoint: Endpoint) -> None:
        async def answer(text: str) -> int:
            return int(text) if endpoint.texts.count(text) == 1 else 200

        endpoint.answer = answer
        await publish(client, *map(str, statuses))
        await push_all(client)
        assert {int(text): endpoint.texts.count(text) for text in endpoint.texts} == {
            status: 1 if status in (200, 201, 202, 204) else 2 for status in statuses
        }

    with_push(story)


def test_failing_messages_come_again_by_the_retry_policy_until_they_are_dead_letters(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        times: list[float] = []

        async def answer(text: str) -> int:
            if text == "good":
                return 200
            times.append(asyncio.get_running_loop().time())
            return 500

        endpoint.answer = answer
        await client.create_subscription("of-dead", "dead")
        await publish(client, "bad", "good")
        await push_all(client)
        assert endpoint.texts.count("good") == 1
        rests = [later - earlier for earlier, later in pairwise(times)]
        assert len(rests) == 4
        assert all(rest >= wanted for rest, wanted in zip(rests, (0.1, 0.2, 0.3, 0.3), strict=True))
        assert sorted(endpoint.attempts) == [1, 1, 2, 3, 4, 5]
        [letter] = await client.subscriber("of-dead").pull()
        assert letter.data == b"bad"

    with_push(story, retry=sf.RetryPolicy(0.1, 0.3), dead_letter=sf.DeadLetterPolicy("dead"))


def test_no_answer_in_time_is_a_nack(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        async def answer(text: str) -> int:
            await asyncio.sleep(60 if len(endpoint.texts) == 1 else 0)
            return 200

        endpoint.answer = answer
        await publish(client, "slow")
        await push_all(client, timeout_s=0.2)
        assert (endpoint.texts, endpoint.attempts) == (["slow", "slow"], [1, 2])

    with_push(story)


@pytest.mark.parametrize("exactly_once", [False, True])
def test_order_of_keys_is_kept_when_the_endpoint_fails(with_push, exactly_once: bool):
    draw = random.Random(3)

    async def story(client: Client, endpoint: Endpoint) -> None:
        taken: dict[str, list[int]] = {"a": [], "b": []}

        async def answer(text: str) -> int:
            key, n = text.split()
            await asyncio.sleep(draw.uniform(0, 0.005))
            if draw.random() < 0.2:
                return 503
            assert int(n) == len(taken[key]), f"{text} came out of order, or again"
            taken[key].append(int(n))
            return 200

        def noted(text: str) -> Awaitable[int]:
            return answer(text)

        endpoint.answer = noted
        for n in range(25):
            await publish(client, f"a {n}", key="a")
            await publish(client, f"b {n}", key="b")
        await push_all(client, requests_max=4)
        assert taken == {"a": list(range(25)), "b": list(range(25))}

    with_push(story, ordered=True, exactly_once=exactly_once, retry=sf.RetryPolicy(0.01, 0.01))


def test_endpoint_that_is_away_is_tried_ever_less_and_loses_nothing(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        async def answer(text: str) -> int:
            return 200 if len(endpoint.texts) > 8 else 503

        endpoint.answer = answer
        await publish(client, *map(str, range(40)))
        began = asyncio.get_running_loop().time()
        await push_all(client, requests_max=4)
        assert asyncio.get_running_loop().time() - began > 0.5
        assert {*endpoint.texts[8:]} == {str(n) for n in range(40)}

    with_push(story)


def test_cancelled_pusher_lets_requests_end_and_gives_the_others_back(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        go = asyncio.Event()

        async def answer(text: str) -> int:
            await go.wait()
            return 200

        endpoint.answer = answer
        await publish(client, *map(str, range(10)))
        pushing = asyncio.create_task(client.push("s", requests_max=3))
        while len(endpoint.texts) < 3:
            await asyncio.sleep(0.01)
        pushing.cancel()
        await asyncio.sleep(0.05)
        assert not pushing.done()
        go.set()
        await stop(pushing)
        assert pushing.cancelled()
        assert len(endpoint.texts) == 3
        left = await client.subscriber("s").pull()
        assert sorted([message.data.decode() for message in left] + endpoint.texts) == sorted(map(str, range(10)))

    with_push(story)


def test_pusher_ends_with_its_subscription(with_push):
    async def story(client: Client, endpoint: Endpoint) -> None:
        pushing = asyncio.create_task(client.push("s"))
        await publish(client, "a")
        while not endpoint.texts:
            await asyncio.sleep(0.01)
        await client.delete_subscription("s")
        await publish(client, "b")
        with pytest.raises(NotFoundError, match="'s'"):
            await asyncio.wait_for(pushing, 10)

    with_push(story)


def test_what_cannot_be_pushed_is_refused(with_push, monkeypatch: pytest.MonkeyPatch):
    for wrong in ("ftp://x", "http://", "localhost:80", "http://x:port"):
        with pytest.raises(DataError, match="no endpoint"):
            sf.PushConfig(wrong)
    with pytest.raises(DataError, match="line breaks"):
        sf.PushConfig("http://x", headers={"a": "b\nc"})

    async def story(client: Client, endpoint: Endpoint) -> None:
        with pytest.raises(PipelineError, match="STREAMFLOW_PUSH_TOKEN"):
            await client.push("s", sf.PushConfig(endpoint.url, oidc=sf.Oidc("me@example.com")))
        monkeypatch.setenv("STREAMFLOW_PUSH_TOKEN", "from-env")
        await publish(client, "a")
        await push_all(client, config=sf.PushConfig(endpoint.url, oidc=sf.Oidc("me@example.com")))
        assert endpoint.requests[0][0]["Authorization"] == "Bearer from-env"
        await client.alter_subscription("s", push=None)
        with pytest.raises(PipelineError, match="no endpoint"):
            await client.push("s")

    with_push(story)


def test_killed_pusher_loses_nothing(tmp_path: Path):
    """It is killed while requests are out, three times; time goes on by more than the ack deadline in between."""
    clock, draw = tmp_path / "clock", random.Random(5)
    clock.write_text("0")

    async def story(client: Client, endpoint: Endpoint) -> None:
        async def answer(text: str) -> int:
            await asyncio.sleep(0.002)
            return 200

        endpoint.answer = answer
        await client.create_topic("t", partitions=2)
        await client.create_subscription("s", "t", sf.SubscriptionSettings(push=sf.PushConfig(endpoint.url)))
        await publish(client, *map(str, range(800)))
        command = [sys.executable, str(PROGRAM), "push", str(tmp_path / "log"), str(clock), ""]
        for kill in range(4):
            process = await asyncio.create_subprocess_exec(*command)
            before, enough = len(endpoint.texts), draw.randrange(20, 200)
            while len(endpoint.texts) < before + enough and kill < 3:
                await asyncio.sleep(0.005)
            if kill == 3:
                while (await client.backlog("s")).events:
                    await asyncio.sleep(0.05)
            process.kill()
            await process.wait()
            clock.with_suffix(".new").write_text(str(11 * (kill + 1)))
            clock.with_suffix(".new").rename(clock)
        assert {*endpoint.texts} == {str(n) for n in range(800)}

    async def whole() -> None:
        async with Endpoint() as endpoint, sf.connect(tmp_path / "log") as client:
            await asyncio.wait_for(story(client, endpoint), 100)

    asyncio.run(whole())


def test_command_pushes_until_it_is_told_to_stop(tmp_path: Path):
    async def whole() -> None:
        async with Endpoint() as endpoint, sf.connect(tmp_path / "log") as client:
            await client.create_topic("t", partitions=2)
            await client.create_subscription("s", "t")
            await publish(client, "a", "b")
            command = [sys.executable, "-m", "streamflow", "sub", "push", "s", "--data", str(tmp_path / "log")]
            refused = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
            assert b"has no endpoint" in (await refused.communicate())[1]
            assert refused.returncode == 1
            process = await asyncio.create_subprocess_exec(*command, "--endpoint", endpoint.url, stdout=subprocess.PIPE)
            while (await client.backlog("s")).events:
                await asyncio.sleep(0.02)
            process.terminate()
            assert (await process.communicate())[0] == b"stopped pushing s\n"
            assert process.returncode == 0
            assert sorted(endpoint.texts) == ["a", "b"]

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_window_doubles_until_a_failure_and_then_grows_by_one_a_round():
    window = Window(100)

    def round_of(*, failures: int = 0) -> int:
        numbers = [window.begin() for _ in range(window.room)]
        for nth, number in enumerate(numbers):
            window.end(number, nth >= failures)
        return len(numbers)

    assert [round_of() for _ in range(4)] == [4, 8, 16, 32]
    assert [round_of(failures=5), round_of(), round_of(), round_of()] == [64, 33, 34, 35]
    assert [round_of() for _ in range(200)][-1] == 100
    for _ in range(12):
        sent = round_of(failures=1 << 30)
    assert (sent, window.room) == (1, 1)
    assert window.pause_s == 60.0
    round_of()
    assert window.pause_s == 0.0
    window.end(window.begin(), None)
    assert (window.room, window.running) == (2, 0)
