"""What several files of these tests share."""

from collections.abc import Iterator

import pytest

from streamflow.engine import kernel

WITHOUT = "without the kernel"
WAYS = [WITHOUT] if kernel.streamflow_kernel is None else ["with the kernel", WITHOUT]


@pytest.fixture(scope="module", params=WAYS)
def with_and_without_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs the tests of a module in both ways of decoding JSON; `test_kernel.py` sees to it that there are both."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == WITHOUT:
            patch.setattr(kernel, "streamflow_kernel", None)
        yield
