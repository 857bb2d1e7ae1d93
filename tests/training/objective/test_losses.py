"""The objective, against naive loops and what it has to become in special cases."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.config import LossSettings
from training.loop.steps import objective
from training.objective.label_similarity import SIMILARITIES, label_similarity
from training.objective.losses import contrastive_loss, soft_loss

FORMS = ("bce", "softmax", "mse")


def features(num: int, width: int, seed: int) -> Tensor:
    return torch.randn(num, width, generator=torch.Generator().manual_seed(seed))


def labels(num: int, seed: int, *, fractions: bool) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = (torch.rand(num, 9, generator=generator) < 0.4).float()
    if fractions:
        found = found * torch.rand(num, 9, generator=generator)
        found = found / found.sum(1, keepdim=True).clamp(min=1e-9)
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()).clamp(min=1e-12))


def naive_similarity(a: Tensor, b: Tensor, kind: str) -> float:
    if kind in {"cosine", "cosine_fractions"}:
        return cosine(a, b)
    if kind == "jaccard":
        both = sum(float(x > 0 and y > 0) for x, y in zip(a, b, strict=True))
        either = sum(float(x > 0 or y > 0) for x, y in zip(a, b, strict=True))
        return both / either if either else 0.0
    if not a.sum() or not b.sum():
        return 0.0
    if kind == "dominant_class":
        return float(a.argmax() == b.argmax())
    return 1 - sum(abs(float(x - y)) for x, y in zip(a, b, strict=True)) / 2


def naive_soft(q: Tensor, k: Tensor, s: Tensor, known: Tensor, form: str, tau: float) -> float:
    total, count = 0.0, 0
    for i in range(len(q)):
        logits = [cosine(q[i], k[j]) / tau for j in range(len(k))]
        columns = [j for j in range(len(k)) if known[i, j]]
        if form == "softmax":
            weight = sum(float(s[i, j]) for j in columns)
            if weight == 0:
                continue
            log_total = math.log(sum(math.exp(logits[j]) for j in columns))
            total -= sum(float(s[i, j]) / weight * (logits[j] - log_total) for j in columns)
            count += 1
            continue
        for j in columns:
            target = float(s[i, j])
            if form == "mse":
                total += (logits[j] * tau - target) ** 2
            else:
                p = 1 / (1 + math.exp(-logits[j]))
                total -= target * math.log(p) + (1 - target) * math.log(1 - p)
            count += 1
    return total / count if count else 0.0


def mean(found: tuple[Tensor, Tensor]) -> float:
    return float(found[0] / found[1].clamp(min=1))


@pytest.mark.parametrize("kind", SIMILARITIES)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_similarity_equals_a_naive_loop(kind: str, seed: int) -> None:
    fractions = kind not in {"cosine", "jaccard"}
    rows, columns = labels(5, seed, fractions=fractions), labels(7, seed + 1, fractions=fractions)
    found = label_similarity(rows, columns, kind)
    assert ((found >= 0) & (found <= 1)).all()
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            assert float(found[i, j]) == pytest.approx(naive_similarity(a, b, kind), abs=1e-6)
    torch.testing.assert_close(found, label_similarity(columns, rows, kind).T)


@pytest.mark.parametrize("kind", SIMILARITIES)
def test_order_of_the_classes_does_not_matter(kind: str) -> None:
    rows, columns = labels(6, 1, fractions=True), labels(6, 2, fractions=True)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        label_similarity(rows, columns, kind),
        label_similarity(rows[:, order], columns[:, order], kind),
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), tau=st.floats(0.05, 2.0))
def test_contrastive_term_equals_a_naive_loop(seed: int, tau: float) -> None:
    q, k = features(5, 8, seed), features(9, 8, seed + 1)
    first = 3
    total = 0.0
    for i in range(len(q)):
        logits = [cosine(q[i], k[j]) / tau for j in range(len(k))]
        total += math.log(sum(math.exp(x) for x in logits)) - logits[i + first]
    expected = total / len(q) * 2 * tau
    assert float(contrastive_loss(q, k, tau, first)) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), tau=st.floats(0.1, 2.0))
def test_soft_term_equals_a_naive_double_loop(form: str, seed: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k = features(5, 8, seed), features(6, 8, seed + 1)
    similarity = torch.rand(5, 6, generator=generator)
    known = torch.rand(5, 6, generator=generator) < 0.7
    found = mean(soft_loss(q, k, similarity, known, form=form, temperature=tau))
    expected = naive_soft(q, k, similarity, known, form, tau)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_binary_similarities_give_multi_positive_supervision() -> None:
    """With one class per patch, the softmax form is supervised contrastive learning.

    Source: Khosla et al. 2020, arXiv 2004.11362, equation 2: the mean over positives of the log
    share of each.
    """
    classes = torch.tensor([0, 1, 0, 2, 1])
    hot = F.one_hot(classes, 9).float()
    similarity = label_similarity(hot, hot, "cosine")
    assert set(similarity.unique().tolist()) == {0.0, 1.0}
    q, k = features(5, 8, 0), features(5, 8, 1)
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2
    expected = 0.0
    for i, own in enumerate(classes):
        positive = [j for j, other in enumerate(classes) if other == own]
        denominator = math.log(sum(math.exp(float(x)) for x in logits[i]))
        expected -= sum(float(logits[i, j]) - denominator for j in positive) / len(positive)
    known = torch.ones(5, 5, dtype=torch.bool)
    found = mean(soft_loss(q, k, similarity, known, form="softmax", temperature=0.2))
    assert found == pytest.approx(expected / 5, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_unlabelled_patches_contribute_no_soft_loss(form: str) -> None:
    q, k = features(6, 8, 0).requires_grad_(), features(6, 8, 1)
    similarity = torch.rand(6, 6, generator=torch.Generator().manual_seed(2))
    labelled = torch.tensor([True, True, False, True, False, True])
    known = labelled[:, None] & labelled[None, :]
    total, count = soft_loss(q, k, similarity, known, form=form)
    kept = labelled.nonzero().squeeze(1)
    alone = soft_loss(
        q[kept], k[kept], similarity[kept][:, kept], torch.ones(4, 4, dtype=torch.bool), form=form
    )
    torch.testing.assert_close(total, alone[0])
    torch.testing.assert_close(count, alone[1])
    total.backward()
    assert q.grad is not None
    assert (q.grad[~labelled] == 0).all()
    assert (q.grad[labelled] != 0).any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["equal labels", "no class", "no labels", "equal features"])
def test_loss_is_finite_at_the_edges(form: str, precision: torch.dtype, case: str) -> None:
    num = 6
    label = {"equal labels": torch.ones(num, 9), "no class": torch.zeros(num, 9)}.get(
        case, labels(num, 0, fractions=False)
    )
    known = torch.full((num,), case != "no labels")
    q = torch.ones(num, 8) if case == "equal features" else features(num, 8, 3)
    q = q.to(precision).requires_grad_()
    terms = objective(
        (q, q * 2), (q.detach(), q.detach()), (label, label), (known, known),
        LossSettings(soft_form=form),
    )  # fmt: skip
    assert torch.isfinite(terms.total)
    assert terms.total.dtype == torch.float32
    terms.total.backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
    if case == "no labels":
        assert terms.soft.item() == 0.0


def test_weights_and_symmetry() -> None:
    q1, q2, k1, k2 = (features(5, 8, seed) for seed in range(4))
    label = (labels(5, 0, fractions=False), labels(5, 1, fractions=False))
    known = (torch.ones(5, dtype=torch.bool),) * 2
    found = objective((q1, q2), (k1, k2), label, known, LossSettings(soft_weight=0.5))
    torch.testing.assert_close(found.total, found.contrastive + 0.5 * found.soft)
    turned = objective((q2, q1), (k2, k1), label[::-1], known, LossSettings(soft_weight=0.5))
    torch.testing.assert_close(found.total, turned.total)
