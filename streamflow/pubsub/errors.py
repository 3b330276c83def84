"""Our errors as the gRPC statuses that Google's clients act on: which to retry, and what became of each ack id."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from streamflow.base.errors import (
    ConflictError,
    CorruptionError,
    DataError,
    FilterError,
    FlowControlError,
    NotFoundError,
    PipelineError,
    StreamFlowError,
)
from streamflow.topics.subscriptions.decisions import AckStatus

log = logging.getLogger(__name__)

Call = Callable[[Any, Any], Awaitable[Any]]

STATUSES: Sequence[tuple[type[Exception], grpc.StatusCode]] = (
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (ConflictError, grpc.StatusCode.FAILED_PRECONDITION),
    (DataError, grpc.StatusCode.INVALID_ARGUMENT),
    (FilterError, grpc.StatusCode.INVALID_ARGUMENT),
    (FlowControlError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (PipelineError, grpc.StatusCode.FAILED_PRECONDITION),
    (CorruptionError, grpc.StatusCode.DATA_LOSS),
    (StreamFlowError, grpc.StatusCode.INTERNAL),
    (OSError, grpc.StatusCode.UNAVAILABLE),
)
"""The first that fits counts; what none fits is INTERNAL. UNAVAILABLE makes clients try again: a disk may have room."""

INVALID = "PERMANENT_FAILURE_INVALID_ACK_ID"
UNORDERED = "TRANSIENT_FAILURE_UNORDERED_ACK_ID"
AGAIN = "TRANSIENT_FAILURE_OTHER"
FAILURES = {AckStatus.STALE: INVALID, AckStatus.OUT_OF_ORDER: UNORDERED}
"""What clients look for beside the ack ids of a failed request."""


class Refusal(Exception):  # noqa: N818 - an answer to the client, not an error of ours
    """A status to answer with. `info`: of an ErrorInfo, which clients read the fate of ack ids from."""

    def __init__(self, code: grpc.StatusCode, message: str, info: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.info = code, message, info


def invalid(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def exists(what: str, name: str) -> Refusal:
    return Refusal(grpc.StatusCode.ALREADY_EXISTS, f"{what} '{name}' exists already. Use it, or another name")


def not_served(what: str, hint: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNIMPLEMENTED, f"{what} is not served by StreamFlow. {hint}")


def ids_refused(failures: Mapping[str, str]) -> Refusal:
    """Of a request with exactly-once delivery; ack id → its failure."""
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "some ack ids are no ids of this subscription, or not the newest of their messages, or their leases have "
        "ended. Process their messages when they come again",
        failures,
    )


def refusal_of(error: Exception) -> Refusal:
    """What to answer; an error that is not the caller's is logged, with its traceback."""
    if isinstance(error, Refusal):
        return error
    code = next((code for kind, code in STATUSES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS):
        log.error("a call failed", exc_info=error)
    return Refusal(code, str(error) or type(error).__name__)


def answering(call: Call) -> Call:
    """The call of a service, whose errors become statuses."""

    async def answer(request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception as error:
            refusal = refusal_of(error)
            await context.abort(refusal.code, refusal.message, _details(refusal))

    return answer


def _details(refusal: Refusal) -> Sequence[tuple[str, bytes]]:
    if refusal.info is None:
        return ()
    detail = AnyMessage()
    detail.Pack(
        ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", domain="pubsub.googleapis.com", metadata=dict(refusal.info))
    )
    status = Status(code=refusal.code.value[0], message=refusal.message, details=[detail])
    return (("grpc-status-details-bin", status.SerializeToString()),)
