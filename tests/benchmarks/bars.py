"""The bars that the measurements are held against: what was wanted, what came out, met or missed by."""

import statistics
from dataclasses import dataclass

from tests.benchmarks.speeds import LONG_TOKENS, SHORT_TOKENS

PEER_LENGTHS = (8192, 32_768)


@dataclass(frozen=True)
class Bar:
    """One comparison; ``value`` is None where it could not be measured."""

    what: str
    value: float | None
    wanted: float
    at_least: bool = True
    unit: str = ""

    @property
    def met(self):
        if self.value is None:
            return None
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    @property
    def verdict(self):
        if self.met is None:
            return "not measured"
        return "met" if self.met else f"missed by {abs(self.value / self.wanted - 1):.0%}"

    def to_dict(self):
        return {
            "what": self.what, "value": self.value, "wanted": self.wanted,
            "sense": "at least" if self.at_least else "at most", "unit": self.unit, "verdict": self.verdict,
        }  # fmt: skip


class Speeds:
    """The entries of one architecture, looked up."""

    def __init__(self, entries, clock):
        self.clock = clock
        self._entries = {(e["contestant"], e["task"], e["length"]): e for e in entries}

    def entry(self, contestant, task, length):
        """Return an entry that has runs, or None."""
        found = self._entries.get((contestant, task, length))
        return found if found and found[self.clock] else None

    def seconds(self, contestant, task, length):
        found = self.entry(contestant, task, length)
        return statistics.median(found[self.clock]) if found else None

    def rate(self, contestant, task, length):
        """Return the amount a second: the median of the runs."""
        found = self.entry(contestant, task, length)
        return found["amount"] / statistics.median(found[self.clock]) if found else None

    def over_forward(self, contestant, task, length):
        """Return how many times as long as our forward it takes: the median over pairs of neighbouring runs."""
        found = self.entry(contestant, task, length)
        if not found:
            return None
        before = found["forward" if self.clock == "seconds" else "forward_cpu"]
        return statistics.median(a / b for a, b in zip(found[self.clock], before, strict=True)) if before else 1.0

    def growth(self, contestant, task, length, key="growth_mb"):
        found = self._entries.get((contestant, task, length))
        return found[key] if found else None

    def contestants(self):
        return list(dict.fromkeys(contestant for contestant, _, _ in self._entries))

    def best_other(self, length):
        """Return the fastest peer that is not transformers, by name and ratio."""
        others = [c for c in self.contestants() if c != "ours" and not c.startswith("transformers")]
        ratios = {c: r for c in others if (r := self.over_forward(c, "forward", length)) is not None}
        best = min(ratios, key=ratios.get, default=None)
        return (best, ratios[best]) if best else ("no other peer", None)


def speed_bars(name, arch, speeds):
    """Bars 1 and 2: against the peers and against the matrix products."""
    bars, mamba2 = [], arch == "mamba2"
    for length in PEER_LENGTHS:
        at = f"at {length:,}"
        least = 3 if mamba2 else {8192: 6, 32_768: 8}[length]
        ratio = speeds.over_forward("transformers", "forward", length)
        bars.append(Bar(f"{name} forward, times transformers {at}", ratio, least))
        if mamba2:
            ratio = speeds.over_forward("transformers in blocks", "forward", length)
            bars.append(Bar(f"{name} forward, times transformers fed in 2,048-token blocks {at}", ratio, 1.8))
        best, ratio = speeds.best_other(length)
        bars.append(Bar(f"{name} forward, times the best other peer ({best}) {at}", ratio, 1.5 if mamba2 else 3))
        for task in ("linear products", *(["linear and chunk products"] if mamba2 else [])):
            share = speeds.over_forward("ours", task, length)
            bars.append(Bar(f"{name} forward, share of the speed of its {task} alone {at}", share, 0.5))
        if not mamba2:
            scan, exp = speeds.rate("ours", "bare scan", length), best_exp(speeds, length)
            bars.append(Bar(f"{name} bare scan, share of the vector exp rate {at}", scan and exp and scan / exp, 0.25))
    return bars


def best_exp(speeds, length):
    """Return the higher of the two measured rates of exp2."""
    rates = [speeds.rate("ours", task, length) for task in ("torch exp2", "polynomial exp2")]
    return max((r for r in rates if r), default=None)


def memory_and_cost_bars(name, speeds):
    """Bars 3 (up to 32k tokens) and 4."""
    bars = []
    for task in ("forward", "observed", "norms"):
        strict = speeds.growth("ours", task, 32_768)
        bars.append(Bar(f"{name} {task}, memory growth at 32,768", strict, 120, False, "MB"))
        warm = speeds.growth("ours", task, 32_768, "growth_warm_mb")
        bars.append(Bar(f"{name} {task}, memory growth at 32,768 after a first short call", warm, 120, False, "MB"))
    for length in (2048, *PEER_LENGTHS):
        gradient, watched = (speeds.over_forward("ours", task, length) for task in ("gradient", "observed"))
        bars.append(Bar(f"{name} gradient step over forward at {length:,}", gradient, 4, False))
        bars.append(Bar(f"{name} forward with default observers over forward at {length:,}", watched, 1.1, False))
        scaled = speeds.over_forward("ours", "scaled", length)
        bars.append(Bar(f"{name} forward with factors over forward at {length:,}", scaled, 1.1, False))
    return bars


def long_memory_bar(name, found):
    """Bar 3 for a million tokens: what a run still grows by behind its first 65,536 tokens, the median of the runs."""
    early, late = found["peak_on_the_way_mb"], found["growth_mb"]
    more = [b - a for a, b in zip(early, late, strict=True)]
    told = ", ".join(f"{each:.1f}" for each in more)
    what = f"{name} norms, memory growth at {LONG_TOKENS:,} over that at {SHORT_TOKENS:,} (runs: {told} MB)"
    return Bar(what, statistics.median(more), 5, False, "MB")


def accuracy_bars(found):
    """Bar 5."""
    bars = []
    for model, result in found.items():
        for what in ("losses", "states"):
            to_loop, among = (max(each[what] for each in result[key].values()) for key in ("to_loop", "among"))
            bars.append(Bar(f"{model} {what}, difference to the float64 loop", to_loop, 2e-6, False))
            bars.append(Bar(f"{model} {what}, difference among block lengths and threads", among, 1e-5, False))
    return bars


def thread_bar(name, found):
    """Bar 6."""
    gain = {
        task: statistics.median(a / b for a, b in zip(times["1"], times["2"], strict=True))
        for task, times in found.items()
    }
    share = gain["forward"] / gain["square product"]
    told = f"{gain['forward']:.2f} against {gain['square product']:.2f} of the product"
    return Bar(f"{name} speed-up by a second thread, share of the product's ({told})", share, 0.8)
