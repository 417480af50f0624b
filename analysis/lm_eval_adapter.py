"""lm-evaluation-harness on a scaled, or a baked, model: the model ``mambascope`` of its registry.

Importing this module registers the model where ``lm_eval`` is installed (extra ``eval``). What the harness's own model
``mamba_ssm`` does silently is stated or done otherwise: no text is cut unless ``max_length`` is given (its default is
2048), stop strings end an answer while it is written, scales act in every token written, and a request for sampling is
refused instead of answered greedily.

Source: EleutherAI/lm-evaluation-harness, ``lm_eval/api/model.py``, ``lm_eval/models/mamba_lm.py``, ``huggingface.py``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mambascope.spectra.checkpoint import open_checkpoint
from mambascope.spectra.errors import RefusedInputError
from mambascope.spectra.loading import encoder_of, load, tokenizer_file
from mambascope.spectra.scales import Scales

from .generation import end_tokens
from .language_requests import LanguageModel, Truncation, Wanted
from .passkey.answers import decoder_of
from .side_by_side import ROWS

T = TypeVar("T")

NAME = "mambascope"
"""What the model is called in the harness's registry."""
ANSWER_TOKENS = 256
"""Tokens of an answer where a task says nothing. Source: the default of lm_eval's ``hf`` model."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # in the harness's order
_ONLY_FOR_SAMPLING = {"temperature", "top_p", "top_k", "min_p", "typical_p", "seed"}


class Request(Protocol):
    """What the harness hands over; its ``Instance``."""

    @property
    def args(self) -> tuple[Any, ...]:
        """Context and continuation, a text alone, or context and how to generate."""
        ...


class Requests:
    """The harness's three kinds of requests: likelihoods one by one, answers several side by side.

    Args:
        pretrained: a bundled name, a folder or a hub id; of a baked model no scales are needed.
        scales: scales, or the file that holds them.
        tokenizer: a ``tokenizer.json``, where the model's folder has none.
        max_length: tokens read at once at most. Default: no limit.
        truncation: what is cut where there is a limit, ``left`` or ``middle``.
        prefix_token: id before a text that has no context. Default: the one that ends a text.
        device: ``auto``, ``cpu`` or ``cuda``.
        dtype: of the weights.
        batch_size: answers written side by side; results do not depend on it. Default: 16, as for ``auto``.
        max_batch_size: taken and not used.
    """

    def __init__(
        self,
        pretrained: str | Path,
        scales: Scales | str | Path | None = None,
        *,
        tokenizer: str | Path | None = None,
        max_length: int | str | None = None,
        truncation: Truncation = "left",
        prefix_token: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        del max_batch_size
        if truncation not in {"left", "middle"}:
            raise RefusedInputError(f"truncation {truncation!r}: expected left or middle")
        checkpoint = open_checkpoint(pretrained)
        model = load(checkpoint, device=device or "auto", dtype=dtype)
        given = scales if scales is None or isinstance(scales, Scales) else Scales.load(scales)
        self.pretrained, self.tokenizer_file = pretrained, tokenizer_file(checkpoint, tokenizer)
        self.scales_file = None if scales is None or isinstance(scales, Scales) else str(scales)
        self.language = LanguageModel(
            model,
            encoder_of(checkpoint, tokenizer),
            decoder_of(checkpoint, tokenizer),
            end_tokens(checkpoint, tokenizer),
            prefix_token,
            None if given is None else given.check(model.config),
            _whole(max_length, "max_length"),
            truncation,
            ROWS if str(batch_size).startswith("auto") else _whole(batch_size, "batch_size") or ROWS,
        )

    def loglikelihood(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) its log-probability, and whether greedy decoding gives it."""
        return [self.language.loglikelihood(*each.args) for each in _shown(requests, "loglikelihood", disable_tqdm)]

    def loglikelihood_rolling(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[float]:
        """Return for each text its log-probability."""
        return [self.language.rolling(each.args[0]) for each in _shown(requests, "rolling", disable_tqdm)]

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """Return for each (context, how to generate) the answer, up to the first stop string."""
        wanted = [Wanted(context, *limit_and_stops(how)) for context, how in (each.args for each in requests)]
        found = [""] * len(wanted)
        for number, answer in _shown(self.language.answers(wanted), "generate_until", disable_tqdm, len(wanted)):
            found[number] = answer
        return found

    @property
    def max_length(self) -> int | None:
        """Tokens read at once at most; None for no limit."""
        return self.language.max_length

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's file, by which the harness tells tokenizers apart."""
        return str(self.tokenizer_file)

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Refuse: the models here continue plain text.

        Raises:
            RefusedInputError: always.
        """
        raise RefusedInputError(f"{self.pretrained}: a model of plain text has no chat template; leave it out")

    def get_model_info(self) -> dict[str, Any]:
        """Return what a result must say of how the model was run; the harness puts it beside its own settings."""
        language = self.language
        scales = language.scales
        return {
            "model": str(self.pretrained),
            "mambascope": metadata.version("mambascope"),
            "scales": "none" if scales is None or scales.is_identity else scales.to_dict(),
            "scales_file": self.scales_file,
            "max_length": language.max_length or "no limit: every text is read whole",
            "truncation": language.truncation if language.max_length else "none",
            "truncated_requests": language.truncated,
            "prefix_token": language.prefix,
            "tokenizer": self.tokenizer_name,
            "model_device": str(language.model.device),
            "model_dtype": str(language.model.dtype).removeprefix("torch."),
        }


def limit_and_stops(how: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Read what a task says of its answers.

    Args:
        how: its ``generation_kwargs``.

    Returns:
        Tokens at most, and the texts that end an answer.

    Raises:
        RefusedInputError: it asks for anything but greedy decoding, or for what is not known here.

    >>> limit_and_stops({"until": "Q:", "max_gen_toks": 8, "do_sample": False, "temperature": 1.0})
    (8, ('Q:',))
    """
    told = {name: value for name, value in how.items() if value is not None}
    sampled = told.pop("do_sample", float(told.get("temperature", 0)) > 0)
    if sampled or told.pop("num_beams", 1) != 1:
        raise RefusedInputError(
            f"generation_kwargs {dict(how)}: answers are greedy here; give gen_kwargs do_sample=False and no beams, or "
            "use another model of the harness"
        )
    until = told.pop("until", ())
    limits = [told.pop(name) for name in _LIMITS if name in told]
    unknown = sorted(told.keys() - _ONLY_FOR_SAMPLING)
    if unknown:
        raise RefusedInputError(
            f"generation_kwargs: {', '.join(unknown)} may change the answers, and is not known here"
        )
    limit = _whole(limits[0] if limits else ANSWER_TOKENS, "max_gen_toks")
    return limit or 0, (until,) if isinstance(until, str) else tuple(until)


def _whole(value: int | str | None, name: str) -> int | None:
    """Return a whole number of 1 or more, which a command line gives as text."""
    if value is None or value == "None":
        return None
    if not str(value).isdecimal() or int(value) < 1:
        raise RefusedInputError(f"{name} {value!r}: expected a whole number of 1 or more")
    return int(value)


def _shown(each: Iterable[T], what: str, disable: bool, total: int | None = None) -> Iterable[T]:
    from tqdm import tqdm

    shown: Iterable[T] = tqdm(each, desc=what, disable=disable, total=total)
    return shown


@functools.cache
def register() -> type[Requests]:
    """Put the model into the harness's registry.

    Returns:
        Its class, which is also one of the harness's.

    Raises:
        RefusedInputError: the harness is not installed.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise RefusedInputError('lm-evaluation-harness is not installed: pip install "mambascope[eval]"')
    base = importlib.import_module("lm_eval.api.model").LM
    made = type("MambascopeLM", (Requests, base), {"__doc__": Requests.__doc__, "__module__": __name__})
    found: type[Requests] = importlib.import_module("lm_eval.api.registry").register_model(NAME)(made)
    return found


def __getattr__(name: str) -> Any:
    if name == "MambascopeLM":  # what an entry point ``lm_eval.models`` names
        return register()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if importlib.util.find_spec("lm_eval") is not None:
    register()
