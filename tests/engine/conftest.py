"""What several files of these tests share."""

from collections.abc import Iterator

import pytest

from streamflow.engine import kernel


@pytest.fixture(scope="module", params=["with the kernel", "without the kernel"])
def with_and_without_kernel(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs the tests of a module in both ways of decoding JSON."""
    if request.param == "with the kernel" and kernel.streamflow_kernel is None:
        pytest.skip("the kernel is not installed")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "without the kernel":
            patch.setattr(kernel, "streamflow_kernel", None)
        yield
