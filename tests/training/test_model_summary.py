import pytest

from mmattn.training.model_summary import ModelSize, size_table


def rows(table):
    return [list(column.cells) for column in table.columns]


def test_parts_and_their_sizes(make_data, make_task):
    model = make_task(make_data()).model
    model.vision.requires_grad_(False)
    names, types, totals, trainable = rows(size_table(model, 1))
    assert [name.strip() for name in names] == ["model", "vision", "text"]
    assert types == ["Captioner", "VisionTransformer", "TextTransformer"]
    sizes = [sum(p.numel() for p in m.parameters()) for m in (model, model.vision, model.text)]
    assert totals == [f"{size:,}" for size in sizes]
    assert trainable == [f"{sizes[2]:,}", "0", f"{sizes[2]:,}"]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_depth_limits_the_levels(make_data, make_task, depth):
    names = rows(size_table(make_task(make_data()).model, depth))[0]
    assert max(len(name) - len(name.lstrip()) for name in names) == 2 * depth


def test_it_is_printed_before_training(make_data, make_task, make_trainer, capsys):
    data = make_data()
    make_trainer(ModelSize(max_depth=1)).fit(make_task(data), datamodule=data)
    assert "VisionTransformer" in capsys.readouterr().out
