"""The synthetic checkpoints of ``written_layouts`` are what transformers itself calls a whole checkpoint."""

import importlib.util
import warnings
from pathlib import Path

import pytest

transformers = pytest.importorskip("transformers", reason="needs the transformers package")

_spec = importlib.util.spec_from_file_location("written_layouts", Path(__file__).with_name("written_layouts.py"))
written = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(written)


@pytest.mark.parametrize("family", written.FAMILIES)
def test_transformers_misses_no_key_and_has_none_left(tmp_path, family):
    tensors = written.write_foreign(tmp_path, family)
    kind = getattr(transformers, written.CONFIGS[family]["architectures"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, told = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert not told["mismatched_keys"]
    found = {int(m.layer_idx): m.A_log for m in model.modules() if hasattr(m, "A_log")}
    assert tuple(found) == written.LAYERS[family]
    for layer, A_log in found.items():
        assert A_log.equal(tensors[f"{written.mixer_prefix(family, layer)}A_log"])
