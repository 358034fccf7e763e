import pytest
import torch

from ssl_lt.evaluate.scores.softmax import softmax_answers


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
