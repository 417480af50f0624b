"""Other models with Mamba layers: their spectra and baking from the files, their states by watching transformers.

Inside, a model's Mamba layers count 0, 1, ... among themselves, and their tensors have the names that the mixers of a
plain Mamba have; in what is shown a layer has its true index. FalconMamba and Jamba have Mamba-1 layers, Zamba2, Bamba,
Nemotron-H and Granite hybrids Mamba-2 layers, between attention, MLP and mixture-of-experts layers.
"""

from __future__ import annotations
