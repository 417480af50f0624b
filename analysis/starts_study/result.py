"""What a comparison of starts found: curves, ratios of passes, and tables on test text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mambascope.spectra.html_table import html_table

from ..evaluate.intervals import Interval
from .curves import PassRatio, StartRun, pass_ratio
from .entries import LayerEntry, best_entry
from .plan import StartsPlan
from .scores import Score, less
from .words import sentences

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class StartsStudy:
    """All runs of a comparison."""

    model: str
    """Name of the model."""
    plan: StartsPlan
    """What was compared."""
    largest: float
    """Largest factor proposed."""
    proposal_passes: float
    """What the proposal cost, in forward passes over a window of L tokens."""
    constants: dict[float, float]
    """Selection tail bits by constant."""
    constant_passes: float
    """What the search for the best one cost."""
    runs: tuple[StartRun, ...]
    """Every calibration."""
    selection_unscaled: float
    """Selection tail bits without scales."""
    selection_control: float
    """Those of the fresh-window control."""
    unscaled: Score
    """The unscaled model on test text."""
    control: Score
    """The fresh-window control on test text."""

    @property
    def best_constant(self) -> float:
        """The constant with the fewest selection bits."""
        return min(self.constants, key=lambda s: self.constants[s])

    def of(self, part: str, **wanted: Any) -> list[StartRun]:
        """Return the runs of a part with a given ``label``, ``method`` or ``kind``."""
        found = []
        for run in self.runs:
            has = {"label": run.task.label, "method": run.task.plan.method, "kind": run.task.plan.kind}
            if run.task.part == part and all(has[name] == value for name, value in wanted.items()):
                found.append(run)
        return found

    def ratios(self) -> list[PassRatio]:
        """Compare passes for each method, and over all of them."""
        names = [*self.plan.methods, *(["any"] if len(self.plan.methods) > 1 else [])]
        return [pass_ratio(self.of("starts"), method) for method in names]

    def curve_rows(self) -> Rows:
        """Return one row a look."""
        return [
            _named(run) | {"passes": passes, "best_selection_tail_bits": bits}
            for run in self.runs
            for passes, bits in run.curve
        ]

    def test_rows(self) -> Rows:
        """Return one row a calibration: start and result on test text, and their difference by document."""
        rows = []
        for run in self.runs:
            row = _named(run) | {
                "step": run.step,
                "passes": run.passes,
                "selection_start": run.start_bits,
                "selection_final": run.final_bits,
                "documents": len(run.final.tail),
            }
            row |= _columns("harm_start", less(run.start.tail, self.control.tail))
            row |= _columns("harm_final", less(run.final.tail, self.control.tail))
            row |= _columns("final_less_start", less(run.final.tail, run.start.tail))
            row |= _columns("final_less_start_inside", less(run.final.inside, run.start.inside))
            row |= _columns("final_less_start_far", less(run.final.far, run.start.far))
            rows.append(row | _columns("harm_final_far", less(run.final.far, self.control.far)))
        return rows

    def worst_change(self, label: str, method: str) -> tuple[StartRun, Interval] | None:
        """Return the run of a start that lost most on test text against its start, and by how much."""
        changes = [(run, less(run.final.tail, run.start.tail)) for run in self.of("starts", label=label, method=method)]
        return max(((run, d) for run, d in changes if d is not None), key=lambda pair: pair[1].mean, default=None)

    def layers(self) -> list[LayerEntry]:
        """Return the entries of the comparison of layer factors, with what needs no calibration beside them."""
        if not self.plan.layer_kinds:
            return []
        proposal = next(run for run in self.of("starts", label="spectrum"))
        constant = next(run for run in self.of("starts", label="constant"))
        found = [
            LayerEntry("no scaling", None, None, "none", None, 1, 0.0, self.selection_unscaled, self.unscaled),
            LayerEntry(
                f"best constant ({self.best_constant:g})", None, None, "constant", None, 1, self.constant_passes,
                constant.start_bits, constant.start,
            ),
            LayerEntry(
                "proposal, not calibrated", None, None, "proposal", None, 1, self.proposal_passes,
                proposal.start_bits, proposal.start,
            ),
        ]  # fmt: skip
        for method in self.plan.layer_methods:
            for kind in self.plan.layer_kinds:
                for label in dict.fromkeys(run.task.label for run in self.of("layers", method=method, kind=kind)):
                    runs = self.of("layers", method=method, kind=kind, label=label)
                    best = min(runs, key=lambda run: run.final_bits)
                    name = f"{kind}, {method}, {label}"
                    entry = LayerEntry(
                        name, kind, method, label, best.task.plan.seed, len(runs), best.passes,
                        best.final_bits, best.final,
                    )  # fmt: skip
                    found.append(entry)
        return found

    def layer_rows(self) -> Rows:
        """Return one row an entry: harm with its interval, and the difference to the entry with the least harm."""
        entries = self.layers()
        best = best_entry(entries)
        rows = []
        for e in entries:
            row: dict[str, Any] = {"entry": e.name, "kind": e.kind, "method": e.method, "start": e.label}
            row |= {"seed": e.seed, "seeds": e.seeds, "passes": e.passes, "selection_tail_bits": e.selection_bits}
            row |= {"documents": len(e.score.tail)}
            row |= _columns("harm", less(e.score.tail, self.control.tail))
            row |= _columns("less_best", less(e.score.tail, best.score.tail) if best else None)
            rows.append(row | _columns("inside_less_unscaled", less(e.score.inside, self.unscaled.inside)))
        return rows

    def sentences(self) -> list[str]:
        """Say plainly what was found, losses of the spectrum start among it."""
        return sentences(self)

    def _repr_html_(self) -> str:
        return html_table(self.test_rows(), repr(self))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "model": self.model,
            "plan": self.plan.to_dict(),
            "largest_proposed": self.largest,
            "best_constant": self.best_constant,
            "ratios": [ratio.row() for ratio in self.ratios()],
            "runs": self.test_rows(),
            "layers": self.layer_rows(),
            "found": self.sentences(),
        }

    def __repr__(self) -> str:
        return f"StartsStudy({self.model}, {len(self.runs)} calibrations, L = {self.plan.target_length})"


def _named(run: StartRun) -> dict[str, Any]:
    p = run.task.plan
    return {
        "part": run.task.part,
        "start": run.task.label,
        "method": p.method,
        "kind": p.kind,
        "granularity": p.granularity,
        "seed": p.seed,
        "steps": p.steps,
        "learning_rate": p.learning_rate,
    }


def _columns(name: str, interval: Interval | None) -> dict[str, Any]:
    values = (interval.mean, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), values, strict=True))
