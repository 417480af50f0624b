"""Test ``mambascope.analysis.generation``: scales act in every token written; what ends an answer."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mambascope.analysis.generation import end_tokens, generate
from mambascope.spectra.checkpoint import open_checkpoint, save_checkpoint
from mambascope.spectra.errors import TextError
from mambascope.spectra.scales import Scales, scaling
from tests.spectra.tiny import save_tiny, tiny_model

SCALES = {"a": scaling("a", 0.02), "a_power": scaling("a_power", 0.2), "dt": scaling("dt", 4.0)}


@dataclass
class OnlyInPrompt:
    """What a decode step that forgets the scales would do."""

    scales: Scales
    tokens: int

    def boundaries(self):
        return (self.tokens,)

    def __call__(self, layer, position, dynamics):
        return self.scales(layer, position, dynamics) if position < self.tokens else dynamics


def writer(arch, **changes):
    """A random model with a head of its own: with the embedding for a head it would write one token for ever."""
    return tiny_model(arch, tie_embeddings=False, **changes)


def prompt_of(model, length=40, seed=0):
    return np.random.default_rng(seed).integers(model.config.vocab_size, size=length)


def written_by_prefill(model, prompt, count, scales):
    """Read everything anew for every token: no single step, so no decoding of its own."""
    ids = list(prompt)
    for _ in range(count):
        block = model(torch.tensor([ids]), None, scales)
        ids.append(int(block.logits()[0, -1].argmax()))
    return tuple(int(i) for i in ids[len(prompt) :])


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
@pytest.mark.parametrize("kind", SCALES)
def test_scales_act_in_every_token_written(arch, kind):
    model, scales = writer(arch), SCALES[kind]
    differs = 0
    for seed in range(4):
        prompt = prompt_of(model, seed=seed)
        expected = written_by_prefill(model, prompt, 24, scales)
        assert generate(model, prompt, 24, intervention=scales).ids == expected
        differs += generate(model, prompt, 24, intervention=OnlyInPrompt(scales, len(prompt))).ids != expected
    assert differs  # scales that act in the prompt alone would be seen


def test_scales_change_what_is_written():
    model = writer("mamba2")
    prompt = prompt_of(model)
    assert generate(model, prompt, 24).ids != generate(model, prompt, 24, intervention=SCALES["a"]).ids


def test_an_onset_within_the_answer_acts_from_there_on():
    model, prompt = writer("mamba2"), prompt_of(writer("mamba2"))
    late = scaling("a", 0.02, onset_tokens=len(prompt) + 5)
    found, plain = generate(model, prompt, 24, intervention=late).ids, generate(model, prompt, 24).ids
    assert found[:5] == plain[:5]
    assert found == written_by_stream(model, prompt, late)
    assert found != plain


def written_by_stream(model, prompt, scales, count=24):
    ids = list(prompt)
    for _ in range(count):
        for block in model.stream(np.array([ids]), intervention=scales):
            last = block
        ids.append(int(last.logits()[0, -1].argmax()))
    return tuple(int(i) for i in ids[len(prompt) :])


def test_an_answer_is_as_long_as_the_limit_unless_something_ends_it():
    model = writer("mamba")
    prompt = prompt_of(model)
    whole = generate(model, prompt, 30)
    assert (len(whole.ids), whole.ended) == (30, False)
    assert model.generate(prompt[None], 30)[0].tolist() == list(whole.ids)
    late = next(i for i in whole.ids if whole.ids.index(i) > 2)
    ended = generate(model, prompt, 30, end={late})
    assert ended.ids == whole.ids[: whole.ids.index(late)]  # the end token is not part of it
    assert ended.ended
    stopped = generate(model, prompt, 30, stop=lambda ids: len(ids) == 7)
    assert (stopped.ids, stopped.ended) == (whole.ids[:7], True)
    assert generate(model, prompt, 0).ids == ()


def test_tokens_are_counted_and_none_is_read_for_nothing():
    model, read = writer("mamba2"), []
    generate(model, prompt_of(model), 6, tick=read.append)
    assert sum(read) == 40 + 5  # what the sixth token leads to is not asked for
    with pytest.raises(TextError, match="the prompt is empty"):
        generate(model, np.array([], np.int64), 3)


def test_an_answer_goes_on_from_a_state():
    model = writer("mamba2")
    prompt = prompt_of(model)
    state = next(model.stream(prompt[None, :25])).state
    assert generate(model, prompt[25:], 12, state=state).ids == generate(model, prompt, 12).ids


def tokenizer_folder(folder, added, config):
    model = tiny_model("mamba2", vocab_size=264)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_checkpoint(folder, model.config, tensors, "transformers")
    made = [{"id": i, "content": content} for i, content in added]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": made, "model": {}}))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return open_checkpoint(folder)


@pytest.mark.parametrize(
    ("added", "config", "expected"),
    [
        ([(0, "<|endoftext|>"), (1, "<|padding|>")], None, {0}),
        ([(2, "</s>"), (1, "<s>")], None, {2}),
        ([(0, "<|endoftext|>"), (7, "<end>")], {"eos_token": "<end>"}, {7}),
        ([(0, "<|endoftext|>"), (7, "<end>")], {"eos_token": {"content": "<end>", "lstrip": False}}, {7}),
        ([(0, "<|endoftext|>")], {"eos_token": None}, {0}),
        ([(0, "<pad>")], None, set()),
    ],
)
def test_which_token_ends_a_text(tmp_path, added, config, expected):
    assert end_tokens(tokenizer_folder(tmp_path / "model", added, config)) == expected


def test_bundled_models_and_those_like_them_end_with_256(tmp_path):
    assert end_tokens(open_checkpoint("mamba2-tiny")) == {256}
    assert end_tokens(open_checkpoint(save_tiny(tmp_path / "tiny", "mamba"))) == {256}


def test_a_broken_tokenizer_file_is_named(tmp_path):
    checkpoint = tokenizer_folder(tmp_path / "model", [], None)
    (tmp_path / "model/tokenizer_config.json").write_text("{")
    with pytest.raises(TextError, match=r"tokenizer_config\.json: not a tokenizer's file"):
        end_tokens(checkpoint)
