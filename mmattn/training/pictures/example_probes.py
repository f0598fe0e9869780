"""Which examples a classifier explains again and again while it learns."""

from collections.abc import Sequence

from mmattn.data.labelled.example import Example
from mmattn.data.labelled.grounded import GroundedExamples
from mmattn.data.labelled.groups import LabelledSet
from mmattn.data.labelled.splits import LabelledSplits
from mmattn.errors import ConfigError
from mmattn.training.pictures.probes import SEARCHED, Probes, split_named, spread


def chosen_examples(probes: Probes, splits: LabelledSplits) -> list[str]:
    """Return the keys of the examples that `probes` names: the same ones every time.

    Without keys of their own they are spread evenly over the set; where the store knows what an
    example is about, of those that are about something in their picture: a reader can check these.

    Raises:
        ConfigError: for a set or a key that does not exist, no example, and a folder of images,
            which have neither a text nor a label.
    """
    if probes.size < 1 or probes.keys == []:
        raise ConfigError(
            f"probes.size={probes.size}, keys={probes.keys}: choose at least one example"
        )
    if probes.folder is not None:
        raise ConfigError("probes.folder is for captions: images there have no text and no label")
    dataset = split_named(splits.train, splits.val, splits.test, probes.split)
    examples = dataset.examples
    if probes.keys is None:
        return [examples[i].key for i in _spread_over(dataset, examples, probes.size)]
    known = {example.key for example in examples}
    unknown = [key for key in probes.keys if key not in known]
    if unknown:
        raise ConfigError(
            f"{probes.split} has no example {unknown[0]!r}; its {len(examples)} examples are "
            f"called like {', '.join(example.key for example in examples[:3])}"
        )
    return list(probes.keys)


def _spread_over(dataset: LabelledSet, examples: Sequence[Example], count: int) -> Sequence[int]:
    candidates: Sequence[int] = range(len(examples))
    store = dataset.store
    if isinstance(store, GroundedExamples):
        asked = spread(candidates, SEARCHED * count)
        candidates = [i for i in asked if store.named_region(examples[i]) is not None] or candidates
    return spread(candidates, count)
