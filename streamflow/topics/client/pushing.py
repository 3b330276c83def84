"""Push delivery: a stream of messages, each sent to an endpoint, and acked or nacked by what that answers."""

import asyncio
import inspect
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from streamflow.base.errors import NotFoundError, PipelineError, StreamFlowError
from streamflow.topics.client.message import Message
from streamflow.topics.client.requests import ACKED, request
from streamflow.topics.client.subscribing import Subscriber
from streamflow.topics.client.window import Window
from streamflow.topics.subscriptions.decisions import AckStatus
from streamflow.topics.subscriptions.push import PushConfig
from streamflow.topics.subscriptions.settings import SubscriptionSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

_logger = logging.getLogger(__name__)
Token = Callable[[PushConfig], str | Awaitable[str]]
"""Gives the bearer token of a request (for `config.oidc.email` and `config.audience`). It is asked each time, so it
should keep a token for as long as that is valid. What it raises ends the pushing, but for an OSError or TimeoutError,
which are as if the endpoint had not answered."""
TOKEN_VARIABLE = "STREAMFLOW_PUSH_TOKEN"


class Pusher:
    """Sends what `subscriber` gets until it is cancelled, or the subscription is gone. Used once.

    A request is out for `timeout_s` at most. Messages of a key are sent one after the other; when one fails, the later
    ones wait until it has come again. The leases of all are extended meanwhile."""

    def __init__(
        self,
        subscriber: Subscriber,
        settings: SubscriptionSettings,
        config: PushConfig,
        *,
        timeout_s: float,
        requests_max: int,
        token: Token | None = None,
    ) -> None:
        """PipelineError if tokens are wanted and there is none."""
        if config.oidc is not None and token is None:
            token = _from_environment()
        self._subscriber = subscriber
        self._settings = settings
        self._config = config
        self._timeout_s = timeout_s
        self._token = token if config.oidc is not None else None
        self._window = Window(requests_max)
        self._room = asyncio.Condition()
        self._lanes: dict[str, deque[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._error: Exception | None = None

    async def run(self) -> None:
        """Cancelled, it lets the requests that are out end, acks what they say, and gives back all others."""
        main = asyncio.current_task()
        assert main is not None
        async with _session(self._timeout_s) as session, self._subscriber:
            try:
                async for message in self._subscriber:
                    self._accept(message, session, main)
            except asyncio.CancelledError:
                if self._error is None:
                    raise
                main.uncancel()
                raise self._error from None
            finally:
                await self._drain()

    def _accept(self, message: Message, session: "ClientSession", main: "asyncio.Task[None]") -> None:
        """Each key has a lane, and each message without one."""
        name = message.ordering_key if self._settings.ordered else ""
        lane = f"key {name}" if name else message.ack_id
        if lane in self._lanes:
            self._lanes[lane].append(message)
            return
        self._lanes[lane] = deque([message])
        task = asyncio.create_task(self._work_off(lane, session, main))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        async with self._room:
            self._stopping = True
            self._room.notify_all()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _work_off(self, name: str, session: "ClientSession", main: "asyncio.Task[None]") -> None:
        lane = self._lanes[name]
        try:
            while lane and (number := await self._begin()) is not None:
                if not await self._deliver(number, lane.popleft(), session):
                    # They come again, after the one that failed.
                    later = [each.ack_id for each in lane]
                    lane.clear()
                    await self._give_back(later)
        except Exception as error:
            if self._error is None and not self._stopping:
                self._error = error
                main.cancel()
        finally:
            del self._lanes[name]
        with suppress(StreamFlowError):
            await self._give_back(each.ack_id for each in lane)

    async def _begin(self) -> int | None:
        """The number of a request, when there is room; None if no more are to begin."""
        async with self._room:
            await self._room.wait_for(lambda: self._stopping or self._window.room)
            return None if self._stopping else self._window.begin()

    async def _deliver(self, number: int, message: Message, session: "ClientSession") -> bool:
        """Whether the next one of its key may follow."""
        succeeded: bool | None = None
        try:
            if self._settings.ordered and not await self._still_ours(message):
                return True
            if self._settings.retry is None and self._window.pause_s:
                await self._rest(self._window.pause_s)
                if self._stopping:
                    await message.nack()
                    return False
            succeeded = await self._post(message, session)
            await (message.ack() if succeeded else message.nack())
            return succeeded
        finally:
            self._window.end(number, succeeded)
            async with self._room:
                self._room.notify(self._window.room)

    async def _still_ours(self, message: Message) -> bool:
        """Not if an earlier one of its key has failed since: it comes again after that one."""
        if await message.modify(self._settings.ack_deadline_s) is AckStatus.HELD:
            return True
        await self._give_back([message.ack_id])
        return False

    async def _rest(self, seconds: float) -> None:
        """Or until it is to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._room:
                await self._room.wait_for(lambda: self._stopping)

    async def _post(self, message: Message, session: "ClientSession") -> bool:
        from aiohttp import ClientError

        try:
            headers, body = request(self._config, self._subscriber.subscription, message)
            if self._token is not None:
                given = self._token(self._config)
                headers["Authorization"] = f"Bearer {await given if inspect.isawaitable(given) else given}"
            async with session.post(self._config.endpoint, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status in ACKED:
                    return True
                problem = f"status {answer.status}"
        except (ClientError, TimeoutError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        # Of many in a row the first one says it all.
        level = logging.DEBUG if self._window.pause_s else logging.WARNING
        _logger.log(level, "%s was not taken by %s: %s", message.message_id, self._config.endpoint, problem)
        return False

    async def _give_back(self, ack_ids: Iterable[str]) -> None:
        ids = list(ack_ids)
        if ids:
            await self._subscriber.modify(ids, 0)


def _session(timeout_s: float) -> "ClientSession":
    try:
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
    except ImportError as error:
        raise NotFoundError(f"pushing needs aiohttp: {error}. pip install 'streamflow[push]'") from error
    # The window bounds the connections.
    return ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=timeout_s),
        headers={"User-Agent": "StreamFlow"},
        cookie_jar=DummyCookieJar(),
    )


def _from_environment() -> Token:
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise PipelineError(
            f"the endpoint wants a token, and there is none. Give `token=` (a function), or set {TOKEN_VARIABLE}"
        )
    return lambda _: token
