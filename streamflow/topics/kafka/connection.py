"""What a `kafka://` address says, an event loop in a thread of its own for aiokafka, and its errors as ours."""

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from streamflow.base.errors import DataError, FencedError, NotFoundError, PipelineError, StreamFlowError

_logger = logging.getLogger(__name__)
T = TypeVar("T")
_PORT = 9092
PATIENCE_S = 60.0
"""With a broker that is away: as long as a restart or an election may take, and then some."""
SESSION_TIMEOUT_MS = 10_000
_AGAIN_S = 0.2

_TLS = ("cafile", "certfile", "keyfile", "password")
_OWN = ("replication", "session_timeout_ms")
_PASSED_ON = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "client_id",
    "request_timeout_ms",
    "metadata_max_age_ms",
    "retry_backoff_ms",
)


@dataclass(frozen=True, slots=True)
class Address:
    """`servers`: `host:port` each. `options`: keyword arguments that all of aiokafka's clients take, TLS left out.
    `tls`: files, as the names of `_TLS`. `replication`: of new topics; None for the broker's own default.
    `session_timeout_ms`: how long a subscriber may be silent until others get its partitions."""

    servers: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, str] = field(default_factory=dict)
    replication: int | None = None
    session_timeout_ms: int = SESSION_TIMEOUT_MS

    @property
    def url(self) -> str:
        """Without passwords."""
        return f"kafka://{','.join(self.servers)}"

    def client_options(self) -> dict[str, Any]:
        """For an aiokafka client. StreamFlowError for TLS files that can't be read."""
        options = {"bootstrap_servers": list(self.servers), **self.options}
        if "SSL" in str(self.options.get("security_protocol", "")):
            options["ssl_context"] = _tls_context(self.tls)
        return options


def parse(url: str) -> Address:
    """`kafka://[user:password@]host[:port][,host[:port]…][?option=value&…]`

    Options are aiokafka's (`security_protocol=SASL_SSL`, `sasl_mechanism=SCRAM-SHA-512`, `client_id=…`, …), the files
    of TLS (`cafile`, `certfile`, `keyfile`, and the key's `password`), `replication` of topics that are created, and
    `session_timeout_ms` of subscribers. A user means SASL, PLAIN over TLS unless the options say otherwise.
    PipelineError for what is none of these.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    servers = tuple(host if ":" in host else f"{host}:{_PORT}" for host in hosts.split(",") if host)
    if not servers:
        raise PipelineError(f"'{parts.scheme}://{hosts}' names no server. Write kafka://host:9092")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in (*_PASSED_ON, *_TLS, *_OWN):
            known = ", ".join(sorted((*_PASSED_ON, *_TLS, *_OWN)))
            raise PipelineError(f"a Kafka address has no option '{name}'. There are {known}")
    options: dict[str, Any] = {
        name: _number(name, value) if name.endswith("_ms") else value
        for name, value in given.items()
        if name in _PASSED_ON
    }
    if credentials:
        user, _, password = credentials.partition(":")
        sasl = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}
        options = {
            **sasl,
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
            **options,
        }
    replication = given.get("replication")
    return Address(
        servers,
        options,
        {name: value for name, value in given.items() if name in _TLS},
        None if replication is None else _number("replication", replication),
        _number("session_timeout_ms", given.get("session_timeout_ms", str(SESSION_TIMEOUT_MS))),
    )


def _number(name: str, value: str) -> int:
    if not value.isdigit():
        raise PipelineError(f"option '{name}' of a Kafka address is no whole number: '{value}'")
    return int(value)


def _tls_context(files: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=files.get("cafile"))
        if "certfile" in files:
            context.load_cert_chain(files["certfile"], files.get("keyfile"), files.get("password"))
    except OSError as error:
        what = ", ".join(f"{name}={path}" for name, path in files.items() if name != "password")
        raise StreamFlowError(f"the TLS files of a Kafka address can't be used: {error}. Check {what}") from error
    return context


class LoopThread:
    """An event loop in a thread of its own, which the threads of a handle ask to do things."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        # aiokafka tells by a log line, besides the error that its caller gets.
        self._loop.set_exception_handler(lambda _, context: _logger.debug("%s", context))
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        """Its result, once it is there. Kafka's errors come as ours."""
        with our_errors():
            future = asyncio.run_coroutine_threadsafe(doing, self._loop)
            try:
                return future.result()
            except BaseException:
                future.cancel()
                raise

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Reasons(logging.Handler):
    """The errors that a thread's log lines speak of."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and isinstance(record.args, tuple):
            self.errors += [each for each in record.args if isinstance(each, BaseException)]


@contextmanager
def real_reason() -> Iterator[None]:
    """Within, a connection that can't be made fails with its reason: aiokafka tells that to its log alone."""
    from aiokafka.errors import KafkaConnectionError

    reasons, log = _Reasons(), logging.getLogger("aiokafka")
    log.addHandler(reasons)
    try:
        yield
    except KafkaConnectionError as error:
        raise reasons.errors[-1] if reasons.errors else error from error
    finally:
        log.removeHandler(reasons)


async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that may be asked again: while Kafka is away, or elects, it is, for `PATIENCE_S`."""
    from aiokafka.errors import KafkaError

    until_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except (KafkaError, OSError) as error:
            away = isinstance(error, OSError) or error.retriable
            if not away or time.monotonic() > until_s:
                raise
            await asyncio.sleep(_AGAIN_S)


@contextmanager
def our_errors() -> Iterator[None]:
    """What Kafka and its client say, as errors of StreamFlow with a hint."""
    from aiokafka import errors as kafka  # an extra, which only those need who use Kafka

    try:
        yield
    except (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError) as error:
        raise NotFoundError(
            f"Kafka knows no such topic: {error}. `streamflow topic list` shows those there are"
        ) from error
    except (kafka.MessageSizeTooLargeError, kafka.RecordTooLargeError) as error:
        raise DataError(
            "an event is larger than Kafka takes (`max.message.bytes` of the topic). Raise that, or store the bulk "
            f"elsewhere: {error}"
        ) from error
    except (kafka.ProducerFenced, kafka.InvalidProducerEpoch, kafka.CommitFailedError) as error:
        raise FencedError(f"another process has taken over: {error}") from error
    except (
        kafka.AuthenticationFailedError,
        kafka.SaslAuthenticationFailed,
        kafka.UnsupportedSaslMechanismError,
        kafka.TopicAuthorizationFailedError,
    ) as error:
        raise StreamFlowError(f"Kafka refuses these credentials: {error}. Check user, password and ACLs") from error
    except ssl.SSLCertVerificationError as error:
        raise StreamFlowError(
            f"Kafka's certificate is not trusted: {error}. Give the one of its authority with cafile=FILE, and the "
            "host that it is made out to"
        ) from error
    except (kafka.KafkaConnectionError, kafka.NodeNotReadyError, OSError) as error:
        raise StreamFlowError(f"Kafka can't be reached: {error}. Is it running, and is the address right?") from error
    except kafka.KafkaError as error:
        raise StreamFlowError(f"Kafka answered: {error!r}") from error
