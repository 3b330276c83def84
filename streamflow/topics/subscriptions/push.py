"""Where a push subscription delivers, and how: settings alone. Google Pub/Sub's names and rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from streamflow.base.errors import DataError


@dataclass(frozen=True, slots=True)
class Oidc:
    """Whom the bearer token of each request speaks for: a service account, and the audience (None: the endpoint)."""

    email: str
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class PushConfig:
    """DataError for what can't be sent to.

    - `endpoint`: an http or https address, which gets a POST for each message
    - `headers`: sent with each request
    - `oidc`: with `Authorization: Bearer …`; where the token comes from is said to `Client.push`
    - `wrapped`: a JSON body as Google's; else the message's data alone
    - `write_metadata`: unwrapped, id, time, key and attributes go into headers
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=dict)
    oidc: Oidc | None = None
    wrapped: bool = True
    write_metadata: bool = False

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.endpoint)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise DataError(f"'{self.endpoint}' is no endpoint to push to. Give http://… or https://…")
        for name, value in self.headers.items():
            if not name or any(c in f"{name}{value}" for c in "\r\n\0"):
                raise DataError(f"header {name!r} of a push endpoint can't be sent: {value!r}. Leave line breaks out")

    @property
    def audience(self) -> str:
        """What a token is made out to."""
        return self.endpoint if self.oidc is None or self.oidc.audience is None else self.oidc.audience
