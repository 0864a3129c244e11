"""`bench`: figures that hang together, not how large they are."""


def test_a_level_is_measured_as_json(empty):
    result = empty.run("--json", "bench", "--level", "ref", "--seconds", "0.02", "--model", "static-en")
    report = result.json()[0]
    assert [level["level"] for level in report["levels"]] == ["ref"]
    level = report["levels"][0]
    assert {(p["n"], p["k"]) for p in level["products"]} == {(1152, 384), (384, 384), (1536, 384), (384, 1536)}
    assert all(p["gops"] > 0 for p in level["products"])
    encoder = level["encoders"][0]
    assert (encoder["model"], encoder["dimension"]) == ("static-en", 256)
    assert [run["texts"] for run in encoder["runs"]] == [1, 8, 32]
    for run in encoder["runs"]:
        assert run["texts_per_second"] > 0 and 0 < run["p50_ms"] <= run["p99_ms"]
        assert run["tokens_per_second"] > run["texts_per_second"]
        assert run["peak_share"] is None  # a static model has no products


def test_a_level_that_the_cpu_lacks_is_refused(empty):
    result = empty.run("bench", "--level", "riscv", expect=2)
    assert "riscv" in result.err


def test_a_model_that_does_not_open_is_explained(empty):
    result = empty.run("bench", "--level", "ref", "--seconds", "0.02", "--model", "no-such-model", expect=1)
    assert "no-such-model" in result.err
