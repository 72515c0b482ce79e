"""The order in which several processes take the tests."""

from tests.support.order import slow_first


def test_each_process_begins_with_slow_modules_that_stay_whole() -> None:
    modules = {"a": "....", "b": "sss", "c": "..", "d": ".s", "e": "s"}
    items = [(f"{module}{i}", module, kind == "s") for module, kinds in modules.items() for i, kind in enumerate(kinds)]
    ordered = slow_first(items, 2)
    assert ordered == ["b0", "b1", "b2", "a0", "a1", "a2", "a3", "d0", "d1", "e0", "c0", "c1"]
    assert sorted(ordered) == sorted(item for item, _, _ in items)
