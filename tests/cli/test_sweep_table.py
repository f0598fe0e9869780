import json

from omegaconf import OmegaConf

from mmattn.cli.sweep_table import SweepTable, points, table, table_over_seeds


def write(folder, number, overrides, results):
    place = folder / str(number)
    (place / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(overrides), place / ".hydra" / "overrides.yaml")
    if results is not None:
        (place / "results.json").write_text(json.dumps(results))


def test_a_sweep_ends_with_a_line_for_every_point(tmp_path, capsys):
    for i, fusion in enumerate(["cross", "co"] * 6):
        results = {"model/parameters": 12345.0, "val/score": 0.5 + i / 100, "test/a/score": 0.25}
        write(tmp_path, i, [f"model/fusion={fusion}", "experiment=x", f"seed={i}"], results)
    config = OmegaConf.create(
        {"hydra": {"sweep": {"dir": str(tmp_path)}}, "optimized_metric": "val/score"}
    )
    SweepTable().on_multirun_end(config)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == "| model/fusion | seed | model/parameters | val/score | test/a/score |"
    assert lines[2] == "| cross | 0 | 12,345 | 0.5 | 0.25 |"
    assert lines[12] == "| cross | 10 | 12,345 | 0.6 | 0.25 |"  # by number, not by name
    assert lines[14:] == [
        "",
        "| model/fusion | seeds | model/parameters | val/score | test/a/score |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| cross | 6 | 12,345 | 0.55 ± 0.037 | 0.25 |",
        "| co | 6 | 12,345 | 0.56 ± 0.037 | 0.25 |",
    ]
    assert (tmp_path / "table.md").read_text().strip().splitlines() == lines


def test_a_point_that_failed_is_left_out(tmp_path):
    write(tmp_path, 0, ["seed=1"], {"val/score": 0.5})
    write(tmp_path, 1, ["seed=2"], None)
    found = points(tmp_path)
    assert [overrides for overrides, _ in found] == [{"seed": "1"}]
    assert table(found, "val/score").splitlines()[-1] == "| 1 | 0.5 |"


def test_points_without_others_of_their_kind_have_no_means():
    one, other = {"seed": "1", "lr": "1e-3"}, {"seed": "2", "lr": "2e-3"}
    assert table_over_seeds([(one, {"val/score": 0.5}), (other, {"val/score": 0.6})], None) == ""
    alike = [(one, {"val/score": 0.5}), ({**one, "lr": "1"}, {"val/score": 0.6})]
    assert table_over_seeds(alike, "val/score") == ""  # of one seed


def test_nothing_measured_is_no_table(tmp_path, capsys):
    assert table([], "val/score") == ""
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}))
    assert capsys.readouterr().out == ""
