"""Triggers, under the names and in the module in which users of Apache Beam look for them."""

from streamflow.model.composite_trigger import AfterAll, AfterAny, AfterEach, AfterWatermark, OrFinally, Repeatedly
from streamflow.model.trigger import (
    AfterCount,
    AfterProcessingTime,
    Always,
    DataLossReason,
    DefaultTrigger,
    Never,
    TriggerFn,
)
from streamflow.model.windowing import AccumulationMode

__all__ = [
    "AccumulationMode",
    "AfterAll",
    "AfterAny",
    "AfterCount",
    "AfterEach",
    "AfterProcessingTime",
    "AfterWatermark",
    "Always",
    "DataLossReason",
    "DefaultTrigger",
    "Never",
    "OrFinally",
    "Repeatedly",
    "TriggerFn",
]

_Never = Never
"""Apache Beam's name of it."""
