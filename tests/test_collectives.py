"""Collectives are found in every corner of a program and counted over its loops."""


def test_bytes_of_known_programs(on_eight_devices):
    found = on_eight_devices("collectives")
    once = {"all-reduce": 16 * 32 * 4}
    assert found["product"] == once
    assert found["repeated"] == {"all-reduce": 5 * once["all-reduce"]}
    assert found["until"] == once and found["either"] == once
