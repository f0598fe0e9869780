import csv

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from mmattn.batch import ImageTokens
from mmattn.recorder import Recorder
from mmattn.training.pictures.head_statistics import HeadStatisticsLogger, norm_outliers
from mmattn.training.pictures.probes import Probes


@pytest.fixture
def fitted(make_data, make_task, make_trainer, tmp_path):
    data = make_data()
    task = make_task(data, depth=2)
    heads = HeadStatisticsLogger(str(tmp_path / "heads"), probes=Probes(size=5))
    logger = CSVLogger(tmp_path, name="", version="")
    make_trainer(heads, logger=logger, max_epochs=2).fit(task, datamodule=data)
    return data, task, tmp_path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_head_has_a_row_at_every_validation(fitted):
    _, _, folder = fitted
    found = rows(folder / "heads" / "heads.csv")
    sites = ["vision.{}.self", "text.{}.self", "text.{}.cross"]
    wanted = {
        (step, site.format(layer), head)
        for step in (6, 12)
        for site in sites
        for layer in (0, 1)
        for head in (0, 1)
    }
    assert {(int(r["step"]), r["site"], int(r["head"])) for r in found} == wanted
    assert len(found) == len(wanted)


def test_the_entropies_are_those_of_the_maps(fitted):
    data, task, folder = fitted
    probe = Probes(size=5).choose(data.splits)[0]
    batch = data.evaluation_batch(probe.dataset, probe.indices)
    recorder = Recorder(["text.*.cross"])
    with torch.no_grad():
        task.model.eval()(batch.images, batch.tokens, recorder)
    for layer in (0, 1):
        weights = recorder.maps[f"text.{layer}.cross"].double()
        entropy = torch.special.entr(weights).sum(-1)
        valid = batch.valid.flatten(1)[:, None].expand_as(entropy)
        expected = [float(entropy[:, head][valid[:, head]].mean()) for head in (0, 1)]
        found = [
            float(row["entropy"])
            for row in rows(folder / "heads" / "heads.csv")
            if (row["step"], row["site"]) == ("12", f"text.{layer}.cross")
        ]
        assert found == pytest.approx(expected, rel=1e-4)


def test_layers_become_curves_and_entropies_pictures(fitted):
    _, _, folder = fitted
    (last,) = [row for row in rows(folder / "metrics.csv") if row["step"] == "12"][-1:]
    heads = [
        float(row["entropy"])
        for row in rows(folder / "heads" / "heads.csv")
        if (row["step"], row["site"]) == ("12", "text.1.self")
    ]
    assert float(last["attention/entropy/text.1.self"]) == pytest.approx(np.mean(heads), rel=1e-4)
    assert 0 <= float(last["attention/norm_outliers"]) <= 1
    assert "attention/prefix_mass/text.1.cross" not in last  # there is no prefix token
    names = {path.name for path in (folder / "heads").glob("*.png")}
    assert names == {f"entropy-{kind}.png" for kind in ("vision-self", "text-self", "text-cross")}
    for name in names:
        assert np.asarray(Image.open(folder / "heads" / name)).std() > 5


def test_tokens_of_an_outlying_norm_are_counted_without_the_prefix():
    tokens = torch.ones(1, 2 + 8, 4)
    tokens[0, 0] = 100.0  # a class token
    tokens[0, 5] = 6.0
    assert norm_outliers(ImageTokens(tokens, (2, 4), 2)) == 1 / 8
