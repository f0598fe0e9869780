"""Retrieval in two steps: embeddings find candidates, and the matcher puts them in order."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, distributed

from mmattn.batch import ImageTokens
from mmattn.joint import NO, YES, JointModel
from mmattn.metrics.precision import in_double
from mmattn.metrics.retrieval import Belonging, figures, ranks
from mmattn.metrics.retrieval_set import Embedded, mean_recall

KS = (1, 5, 10)
AT_ONCE = 256  # pairs, texts or queries


@torch.no_grad()
def reranked(
    model: JointModel, found: Embedded, seen: Mapping[int, ImageTokens], k: int
) -> dict[str, float]:
    """Return the retrieval figures where the k closest of each query stand in the matcher's order.

    As ALBEF (Li et al. 2021) and BLIP retrieve: those that are not among the k stay behind in the
    order of similarity. Every process must call it, and scores the pairs of the images it has.

    Args:
        model: with a matcher.
        found: the embeddings of the set.
        seen: by their keys the images that this process has encoded, [1, P + S, D] each.
        k: how many candidates there are.
    """
    belonging = Belonging.of(found.image_of_text, len(found.images), found.same)
    asking, texts = belonging.asking, belonging.texts
    top_texts = closest(found.images[asking], found.texts, k)
    top_images = closest(found.texts, found.images, k)
    yes = pair_scores(
        model,
        found,
        seen,
        torch.cat([asking.repeat_interleave(top_texts.shape[1]), top_images.flatten()]),
        torch.cat([top_texts.flatten(), texts.repeat_interleave(top_images.shape[1])]),
    )
    of_texts, of_images = yes[: top_texts.numel()], yes[top_texts.numel() :]
    image_ranks = ranks_within(
        found.images[asking],
        found.texts,
        top_texts,
        of_texts,
        lambda q: belonging.texts_of(asking[q]),
    )
    text_ranks = ranks_within(found.texts, found.images, top_images, of_images, belonging.images_of)
    named = figures("image_to_text", KS, image_ranks) | figures("text_to_image", KS, text_ranks)
    return {f"reranked_{n}": v for n, v in (named | {"mean_recall": mean_recall(named)}).items()}


def closest(
    queries: Float[Tensor, "Q E"], candidates: Float[Tensor, "N E"], k: int
) -> Int[Tensor, "Q k"]:
    """Return the k most similar candidates of each query, or all where there are fewer."""
    k, other = min(k, len(candidates)), in_double(candidates).T
    parts = [(in_double(part) @ other).topk(k, 1).indices for part in queries.split(AT_ONCE)]
    return torch.cat(parts)


def pair_scores(
    model: JointModel,
    found: Embedded,
    seen: Mapping[int, ImageTokens],
    images: Int[Tensor, "M"],
    texts: Int[Tensor, "M"],
) -> Float[Tensor, "M"]:
    """Return how surely the matcher says yes to each pair, whichever process has its image."""
    place = model.log_scale.device
    keys = found.image_keys.tolist()
    here = torch.tensor([key in seen for key in keys], device=images.device)[images]
    scores = torch.full((len(images),), -torch.inf, device=place)
    hidden = read_all(model, found)
    for part in here.nonzero()[:, 0].split(AT_ONCE):
        numbers, rows = images[part].unique(return_inverse=True)
        one = [seen[keys[number]] for number in numbers.tolist()]
        together = one[0]._replace(tokens=torch.cat([image.tokens for image in one]))
        chosen = texts[part].to(place)
        valid = found.valid.to(place)[chosen]
        answer = model.match(together, rows.to(place), hidden[chosen], valid)
        scores[part.to(place)] = answer[:, YES].float() - answer[:, NO].float()
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(scores, distributed.ReduceOp.MAX)
    return scores.to(images.device)


def read_all(model: JointModel, found: Embedded) -> Float[Tensor, "texts T D"]:
    """Encode every text once, since it stands in many pairs."""
    place = model.log_scale.device
    rows = zip(found.tokens.split(AT_ONCE), found.valid.split(AT_ONCE), strict=True)
    return torch.cat([model.read(tokens.to(place), valid.to(place)) for tokens, valid in rows])


def ranks_within(
    queries: Float[Tensor, "Q E"],
    candidates: Float[Tensor, "N E"],
    top: Int[Tensor, "Q k"],
    yes: Float[Tensor, "M"],
    own: Callable[[Int[Tensor, "q"]], Bool[Tensor, "q N"]],
) -> Int[Tensor, "Q"]:
    """Return the ranks where the candidates `top` come first, by `yes`, and then all others."""
    other = in_double(candidates).T
    first = 2 + in_double(yes - yes.min()).view(top.shape)  # above any cosine
    places = torch.arange(len(queries), device=top.device)
    return torch.cat(
        [
            ranks((in_double(queries[q]) @ other).scatter(1, top[q], first[q]), own(q))
            for q in places.split(AT_ONCE)
        ]
    )
