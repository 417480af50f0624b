"""The tokenizer of models whose hub repository has none: the state-spaces ones use EleutherAI/gpt-neox-20b's.

Source: state-spaces/mamba, evals/lm_harness_eval.py and its benchmark scripts, which load that one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .errors import TextError
from .tensor_source import shown

TOKENIZER = "EleutherAI/gpt-neox-20b"
"""Hub repository whose tokenizer the state-spaces models were trained with."""
_FILE = "tokenizer.json"
_CACHED = "models--state-spaces--mamba"  # how huggingface_hub names the folders of these models in its cache


def lacks_tokenizer(folder: Path | None) -> bool:
    """Return whether a folder is a state-spaces model in the hub's cache (.../models--OWNER--NAME/snapshots/COMMIT)."""
    return folder is not None and folder.parent.name == "snapshots" and folder.parent.parent.name.startswith(_CACHED)


def cached_tokenizer() -> Path | None:
    """Return the tokenizer in the hub's cache; None where it was not fetched yet. No network is used."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(TOKENIZER, _FILE)
    return Path(found) if isinstance(found, str) else None


def fetched_tokenizer() -> Path:
    """Fetch the tokenizer, or find it in the hub's cache (HF_HUB_OFFLINE is honoured).

    Returns:
        Its file.

    Raises:
        TextError: the ``hub`` extra is missing, or the hub cannot be reached.
    """
    wanted = f"texts for state-spaces models need the tokenizer of {TOKENIZER}"
    if importlib.util.find_spec("huggingface_hub") is None:
        raise TextError(f'{wanted}: pip install "mambascope[hub]", or give --tokenizer FILE')
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(TOKENIZER, _FILE))
    except (OSError, ValueError) as error:
        raise TextError(
            f"{wanted}, and the hub gave {type(error).__name__}: {shown(str(error))}; check the network, "
            "or give --tokenizer FILE"
        ) from error


def fetch_line(folder: Path) -> str:
    """Return the command that lays the tokenizer into a checkpoint's folder."""
    return f"hf download {TOKENIZER} {_FILE} --local-dir {folder}"
