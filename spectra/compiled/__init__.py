"""Compiled CPU loops for float32: what a mixer does between its matrix products, each in one pass over the tokens.

``conv_silu``: the causal convolution and its SiLU; ``gate``: D skip, gate and gated RMSNorm; ``softplus``: of the step
sizes; ``rms_norm``: the norm before a mixer. In plain torch each is a chain of passes over memory, which on one core
take about as long as the matrix products. Values and gradients are tested against those chains. ``lanes``, ``strides``
and ``threads`` hold what these loops and the compiled scans share, ``recycled`` the memory of their results.
numba keeps the compiled code on disk.
"""
