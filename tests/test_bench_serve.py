"""The load test in small: what its document holds, not how fast anything is."""

import pytest

from benchmarks import serve


def test_good_requests_are_answered_and_bad_ones_leave_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "_TRANSFER", 1.0)  # slow clients wait for it to pass, sixteen times
    document = serve.run(requests=100, clients=3, size=64, model=None).document()
    names = [row["name"] for row in document["rows"]]
    assert names[:2] == ["without a server", "one client"]
    assert names[2:12] == [f"3 clients, {n} requests" for n in range(10, 110, 10)]
    assert names[12:] == [
        "not a picture: 5 x 415",
        "truncated: 5 x 400",
        "decompression bomb: 5 x 413",
        "100 MB body: 5 x 413",
        "slow body: 5 x 408",
        "no request: 5 x closed",
    ]
    kept = document["rows"][1:]
    assert {row["places"] for row in kept} == {0}
    assert kept[-1]["files"] <= kept[0]["files"] + 2
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in document["rows"][:12])
    (ratio,) = document["ratios"].values()
    assert ratio > 0.5
