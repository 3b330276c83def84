"""Apache Beam's module of this name: the two kinds of time that a timer may go by."""


class TimeDomain:
    """WATERMARK: event time, as the watermark tells it. REAL_TIME: processing time, as the worker's clock tells it."""

    WATERMARK = "WATERMARK"
    REAL_TIME = "REAL_TIME"

    @staticmethod
    def from_string(domain: str) -> str:
        if domain in (TimeDomain.WATERMARK, TimeDomain.REAL_TIME):
            return domain
        raise ValueError(f"there is no time domain {domain!r}. Choose TimeDomain.WATERMARK or TimeDomain.REAL_TIME.")

    @staticmethod
    def is_event_time(domain: str) -> bool:
        return TimeDomain.from_string(domain) == TimeDomain.WATERMARK
