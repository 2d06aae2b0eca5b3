"""Old snapshots go, and none that a replay needs."""

from hypothesis import given
from hypothesis import strategies as st

from daas.storage.snapshots import removable


def test_the_newest_stay_and_older_ones_are_thinned_to_the_gap() -> None:
    kept = list(range(10, 210, 10))
    assert removable(kept, newest=5, gap=50) == [10, 20, 30, 40, 60, 70, 80, 90, 110, 120, 130, 140]
    assert removable(kept, newest=20, gap=50) == []
    assert removable([], newest=5, gap=50) == []


@given(st.sets(st.integers(1, 5_000), max_size=60), st.integers(2, 20), st.integers(1, 2_000))
def test_a_removal_never_makes_a_replay_longer_than_the_gap(numbers: set[int], newest: int, gap: int) -> None:
    kept = sorted(numbers)
    gone = set(removable(kept, newest=newest, gap=gap))
    left = [number for number in kept if number not in gone]
    assert left[-newest:] == kept[-newest:]
    before = 0
    for number in left:
        between = [one for one in kept if before < one < number]
        # Neighbours are further apart than the gap only where nothing stood between them.
        assert number - before <= gap or not between
        before = number
    assert removable(left, newest=newest, gap=gap) == []
