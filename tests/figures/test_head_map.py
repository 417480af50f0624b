"""figures/head_map.py: what the page's map holds are the study's own numbers."""

import json
import re

import numpy as np
import pytest

from mambascope.figures import head_map as module
from mambascope.figures.head_map import head_map, quantities

from .conftest import make_study


def data_of(html):
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])


@pytest.mark.parametrize("arch", ["mamba", "mamba2"])
def test_it_holds_every_unit_of_every_layer(arch):
    study = make_study(arch=arch, n_layer=3)
    data = data_of(head_map(study, "model-1"))
    assert data["units"] is None
    assert data["unit"] == {"mamba": "channel", "mamba2": "head"}[arch]
    tau = np.stack(study.proposal.diagnosis.spectrum.horizons_tokens())
    of_unit = tau.max(-1) if arch == "mamba" else tau  # a channel's slowest state stands for it
    np.testing.assert_allclose(data["quantities"][0]["rows"], of_unit, rtol=6e-4)
    assert data["quantities"][0]["centre"] == study.train_length


def test_a_channels_factor_is_that_of_its_slowest_state():
    study = make_study(arch="mamba")
    factor = next(q for q in quantities(study) if q.name.startswith("proposed factor"))
    tau = np.stack(study.proposal.diagnosis.spectrum.horizons_tokens())
    factors = np.asarray(study.proposal.scales.factors[0].values.numpy(), dtype=float)
    layer, channel = 1, 4
    assert factor.values[layer, channel] == factors[layer, channel, tau[layer, channel].argmax()]


def test_a_model_left_alone_has_no_factors():
    names = [q.name for q in quantities(make_study(acts=False))]
    assert not [name for name in names if "factor" in name or "proposed" in name]


def test_of_many_units_evenly_spaced_ranks_are_shown_with_their_numbers(monkeypatch):
    monkeypatch.setattr(module, "MOST_UNITS", 3)
    study = make_study(arch="mamba2", n_layer=2)
    html = head_map(study, "m")
    data = data_of(html)
    tau = np.stack(study.proposal.diagnosis.spectrum.horizons_tokens())
    for layer, shown in enumerate(data["units"]):
        assert len(shown) == 3
        assert {int(tau[layer].argmax()), int(tau[layer].argmin())} <= set(shown)
        np.testing.assert_allclose(data["quantities"][0]["rows"][layer], tau[layer][shown], rtol=6e-4)
    assert "Of 5 heads a layer 3 are shown" in html


def test_nothing_in_it_ends_the_script_or_breaks_json(monkeypatch):
    study = make_study()
    found = quantities(study)
    odd = [module.Quantity("</script><b>", "*", np.where(found[0].values > 0, np.inf, 1.0), None)]
    monkeypatch.setattr(module, "quantities", lambda _: odd + found)
    html = head_map(study, '"><script>')
    assert html.count("</script>") == 1
    assert data_of(html)["quantities"][0]["rows"][0][0] is None
    assert '"><script>' not in html
