"""A Mamba language model in plain torch around a scan that somebody else wrote; it shares no code with our model.

Foreign scans are timed in it, and a loop over time in float64 makes it the oracle of the accuracy test. It runs a
text whole, or block by block where the scan takes a state.

Source: Gu and Dao 2023, Algorithm 2; Dao and Gu 2024, section 7; parameter names of state-spaces/mamba.
"""

import torch
import torch.nn.functional as F


class Frame:
    """``scan(x, dt, A, B, C, h)`` returns outputs without the D skip, and the last state; h is None at the start.

    Mamba-1: x, dt (1, length, d_inner), A (d_inner, d_state), B, C (1, length, d_state), h (1, d_inner, d_state).
    Mamba-2: x (1, length, nheads, headdim), dt (1, length, nheads), A (nheads,), B, C (1, length, ngroups, d_state),
    h (1, nheads, headdim, d_state).
    """

    def __init__(self, model, scan, dtype=torch.float32, leaves=None):
        self.config, self.scan, self.leaves = model.config, scan, leaves
        tensors = {name: value.to(dtype) for name, value in model.state_dict().items()}
        self.embedding, self.head = tensors["backbone.embedding.weight"], tensors["lm_head.weight"]
        self.norm_f = tensors["backbone.norm_f.weight"]
        self.layers = []
        for i in range(model.config.n_layer):
            prefix = f"backbone.layers.{i}."
            self.layers.append({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})

    def __call__(self, ids, states=None):
        """Run ids (1, length) and return logits and the layers' states, each (last inputs of the convolution, h)."""
        residual, after = self.embedding[ids], []
        for i, w in enumerate(self.layers):
            hidden = F.rms_norm(residual, (self.config.d_model,), w["norm.weight"], self.config.norm_eps)
            A = -torch.exp(w["mixer.A_log"])
            if self.leaves is not None:
                A = A * (self.leaves[i] if A.dim() == 1 else self.leaves[i][:, None])
            mix = self._mamba if self.config.arch == "mamba" else self._mamba2
            mixed, state = mix(w, A, hidden, (None, None) if states is None else states[i])
            residual = residual + mixed
            after.append(state)
        hidden = F.rms_norm(residual, (self.config.d_model,), self.norm_f, self.config.norm_eps)
        return F.linear(hidden, self.head), after

    def _convolve(self, w, x, tail):
        taps = w["mixer.conv1d.weight"]  # (channels, 1, d_conv)
        x = x.transpose(1, 2)
        padded = F.pad(x, (taps.shape[-1] - 1, 0)) if tail is None else torch.cat([tail, x], dim=2)
        y = F.silu(F.conv1d(padded, taps, w.get("mixer.conv1d.bias"), groups=taps.shape[0]))
        return y.transpose(1, 2), padded[:, :, -taps.shape[-1] + 1 :]

    def _mamba(self, w, A, hidden, state):
        cfg = self.config
        x, z = F.linear(hidden, w["mixer.in_proj.weight"], w.get("mixer.in_proj.bias")).chunk(2, dim=-1)
        x, tail = self._convolve(w, x, state[0])
        dt, B, C = F.linear(x, w["mixer.x_proj.weight"]).split([cfg.dt_rank, cfg.d_state, cfg.d_state], dim=-1)
        dt = F.softplus(F.linear(dt, w["mixer.dt_proj.weight"], w["mixer.dt_proj.bias"]))
        y, h = self.scan(x, dt, A, B, C, state[1])
        y = (y + w["mixer.D"] * x) * F.silu(z)
        return F.linear(y, w["mixer.out_proj.weight"], w.get("mixer.out_proj.bias")), (tail, h)

    def _mamba2(self, w, A, hidden, state):
        cfg = self.config
        projected = F.linear(hidden, w["mixer.in_proj.weight"], w.get("mixer.in_proj.bias"))
        z, xBC, dt = projected.split([cfg.d_inner, cfg.conv_dim, cfg.nheads], dim=-1)
        xBC, tail = self._convolve(w, xBC, state[0])
        width = cfg.ngroups * cfg.d_state
        x, B, C = xBC.split([cfg.d_inner, width, width], dim=-1)
        x, B, C = (
            x.unflatten(-1, (cfg.nheads, -1)),
            B.unflatten(-1, (cfg.ngroups, -1)),
            C.unflatten(-1, (cfg.ngroups, -1)),
        )
        dt = F.softplus(dt + w["mixer.dt_bias"]).clamp(*cfg.dt_limit)
        y, h = self.scan(x, dt, A, B, C, state[1])
        y = (y + w["mixer.D"].view(cfg.nheads, -1) * x).flatten(2) * F.silu(z)
        if cfg.rmsnorm:
            groups = F.rms_norm(y.unflatten(-1, (cfg.ngroups, -1)), (cfg.d_inner // cfg.ngroups,), None, cfg.norm_eps)
            y = groups.flatten(2) * w["mixer.norm.weight"]
        return F.linear(y, w["mixer.out_proj.weight"], w.get("mixer.out_proj.bias")), (tail, h)
