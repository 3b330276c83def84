"""How long a store rests between writes."""

import pytest

from streamflow.engine.pace import rest_s


@pytest.mark.parametrize(
    ("write_s", "least_s", "most_s", "expected_s"),
    [
        (0.0, 0.0, 0.2, 0.0),
        (0.01, 0.0, 0.2, 0.03),
        (0.05, 0.0, 0.2, 0.15),
        (0.5, 0.0, 0.2, 0.2),
        (0.01, 0.1, 0.2, 0.1),
        (0.04, 0.1, 0.2, 0.12),
        (5.0, 0.1, 0.2, 0.2),
        (0.01, 0.1, 0.05, 0.05),
        (1.0, 0.1, 0.0, 0.0),
        (2.0, 0.1, 60.0, 6.0),
    ],
)
def test_a_store_rests_three_times_as_long_as_it_wrote_within_its_bounds(
    write_s: float, least_s: float, most_s: float, expected_s: float
) -> None:
    assert rest_s(write_s, least_s, most_s) == pytest.approx(expected_s)
