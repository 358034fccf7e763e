import pytest
import torch

from ssl_lt.evaluate.scores import softmax
from ssl_lt.evaluate.scores.softmax import Answers, answers_by_parts, softmax_answers


def test_likeliest_class_and_its_probability():
    logits = 3 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    classes, probability = softmax_answers(logits)
    expected = torch.softmax(logits, dim=1)
    assert torch.equal(classes, expected.argmax(dim=1))
    assert torch.allclose(probability, expected.max(dim=1).values)


def test_large_logits_do_not_overflow():
    classes, probability = softmax_answers(torch.tensor([[1e4, 0.0], [-1e4, -1e4]]))
    assert classes.tolist() == [0, 0]
    assert probability.tolist() == pytest.approx([1.0, 0.5])


def test_the_same_in_parts_and_as_columns(monkeypatch):
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    layer = torch.nn.Linear(4, 7)
    classes, probability = softmax_answers(layer(x))
    monkeypatch.setattr(softmax, "_LARGEST", 7 * 8)
    in_parts = answers_by_parts(layer, x, num_classes=7)
    assert torch.equal(in_parts[0], classes)
    assert torch.allclose(in_parts[1], probability)
    columns = Answers(layer)(x)
    assert torch.equal(columns[:, 0].long(), classes)
    assert torch.equal(columns[:, 1], probability)
