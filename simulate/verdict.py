"""Verdicts: what the data of a run says of a claim, and how sure that is.

Each comparison holds a simulated mean with its standard error against the form as printed and the corrected form. A
form is rejected when it lies further from the mean than a critical number of standard errors, set so that the chance to
reject any true form in a whole run is at most ``FAMILY_ERROR``. That chance is shared equally among the comparisons
(Bonferroni); each takes Student's t and, for the skewness g of the mean, the leading term of the large deviations of a
mean divided by its own standard error, which multiplies one tail at z by exp(|g| z^3 / 3) (Jing, Shao and Wang 2003).
The skewness is that of the sample, so that a run needs trials enough to know it: ``analysis.verification`` asks for
them. A deterministic comparison has an error bound in place of a standard error and no chance of a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
import scipy.optimize
import scipy.stats

from .arrays import Floats

Word = Literal["holds", "holds in part", "fails", "undecided"]

FAMILY_ERROR = 1e-6
"""Chance that any true form is rejected in one run. Ours: once in a million runs."""
POWER = 0.99
"""Power that a comparison must have against its rival to be counted as evidence."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What an experiment gave, one column a quantity."""

    values: Floats
    """(trials, columns)."""

    def mean(self, column: int = 0) -> float:
        """Return a column's mean."""
        return float(self.values[:, column].mean())

    def furthest(self, form: float) -> float:
        """Return the value of any trial and column that lies furthest from a form."""
        values = self.values.ravel()
        return float(values[np.abs(values - form).argmax()])

    def against(
        self,
        name: str,
        corrected: float,
        printed: float | None = None,
        *,
        rival: float | None = None,
        column: int = 0,
        unit: float = 1.0,
        x: float | None = None,
    ) -> Comparison:
        """Compare a column's mean with the two forms.

        Args:
            name: what is compared.
            corrected: value by the corrected form.
            printed: value by the printed form; None where it says nothing.
            rival: a value that must be told apart. Default: the printed one.
            column: which column.
            unit: what the mean is divided by.
            x: abscissa, for a figure.

        Returns:
            The comparison.
        """
        values = self.values[:, column] / unit
        n, mean = len(values), float(values.mean())
        sd = float(values.std(ddof=1))
        skewness = float(np.power((values - mean) / sd, 3).mean()) / math.sqrt(n) if sd > 0 else 0.0
        return Comparison(
            name,
            mean,
            sd / math.sqrt(n),
            printed,
            corrected,
            rival if rival is not None else printed,
            n - 1,
            skewness,
            x,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One simulated or computed number against what the forms say of it."""

    name: str
    """What is compared."""
    value: float
    """The simulated mean, or the computed number."""
    error: float
    """Its standard error; for a computed number a bound on its error."""
    printed: float | None
    """What the claim as printed says; None where it says nothing."""
    corrected: float
    """What the corrected form says; equal to ``printed`` where that is right."""
    rival: float | None
    """A value that must be excluded: the printed form, or for a true claim a named alternative."""
    freedom: int | None = None
    """Degrees of freedom of the standard error; None for a computed number."""
    skewness: float = 0.0
    """Skewness of the mean."""
    x: float | None = None
    """Abscissa, for a figure."""

    @property
    def sound(self) -> bool:
        """Whether value, error and corrected form are numbers; nothing follows from a comparison that is not sound."""
        return all(map(math.isfinite, (self.value, self.error, self.corrected))) and self.error >= 0

    @property
    def simulated(self) -> bool:
        """Whether the value is a mean over trials, not a computed number."""
        return self.freedom is not None

    def distance(self, form: float) -> float:
        """Return how many errors the value lies above a form; infinite beside an exact number."""
        gap = self.value - form
        return gap / self.error if self.error else math.copysign(math.inf, gap) if gap else 0.0

    def critical(self, chance: float) -> float:
        """Return the distance beyond which a form is rejected, for a given chance to reject the truth."""
        if self.freedom is None:
            return 1.0
        return _critical(chance, self.freedom, abs(self.skewness))

    def false_alarm(self, chance: float) -> float:
        """Return the chance to reject the truth at the critical distance; 0 where nothing is ever rejected."""
        critical = self.critical(chance)
        if self.freedom is None or not math.isfinite(critical):
            return 0.0
        return math.exp(_log_tail(critical, self.freedom, abs(self.skewness)))

    def rejects(self, form: float, chance: float) -> bool:
        """Return whether a form is rejected."""
        return abs(self.distance(form)) > self.critical(chance)

    def power(self, chance: float) -> float:
        """Return the probability to reject the rival if the corrected form is true; 1 without a rival."""
        if self.rival is None:
            return 1.0
        effect = abs(self.rival - self.corrected)
        if not self.sound or not effect:
            return 0.0
        if self.freedom is None:
            return 1.0 if effect > 2 * self.error else 0.0
        return float(scipy.stats.norm.cdf(effect / self.error - self.critical(chance))) if self.error else 1.0


def exactly(
    name: str,
    value: float,
    corrected: float,
    printed: float | None = None,
    *,
    bound: float,
    rival: float | None = None,
    x: float | None = None,
) -> Comparison:
    """Compare a computed number, whose error is at most ``bound``, with the two forms."""
    return Comparison(name, value, bound, printed, corrected, rival if rival is not None else printed, x=x)


def _log_tail(z: float | Floats, freedom: int, skewness: float) -> Any:
    """Logarithm of the chance that a mean lies further than z of its own standard errors from the truth."""
    return math.log(2) + scipy.stats.t.logsf(z, freedom) + skewness * z**3 / 3


def _critical(chance: float, freedom: int, skewness: float) -> float:
    # the correction is the leading term of a series in skewness * z: beyond 1 it says nothing, and nothing is rejected
    furthest = min(1 / skewness, 60.0) if skewness > 0 else 60.0
    grid = np.linspace(0.0, furthest, 121)
    low_enough = np.flatnonzero(_log_tail(grid, freedom, skewness) <= math.log(chance))
    if not low_enough.size:
        return math.inf
    first = int(low_enough[0])

    def excess(z: float) -> float:
        return float(_log_tail(z, freedom, skewness)) - math.log(chance)

    return 0.0 if first == 0 else float(scipy.optimize.brentq(excess, grid[first - 1], grid[first], xtol=1e-6))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says of one claim; everything is computed from the comparisons."""

    claim: str
    """Key of the claim."""
    comparisons: tuple[Comparison, ...]
    """The simulation against both forms."""
    controls: tuple[Comparison, ...]
    """The same with an assumption violated: the corrected form must be rejected in each."""
    unconfirmed: tuple[str, ...]
    """Steps of the derivation that could not be confirmed."""
    chance: float
    """Chance of a false alarm given to each comparison."""

    @property
    def printed(self) -> Word:
        """What becomes of the claim as printed.

        It fails with one comparison that rejects it, and holds in part if others confirm it with power; it holds if
        none rejects it and one that could have done so does not.
        """
        told = [c for c in self.comparisons if c.printed is not None]
        if not all(c.sound for c in self.comparisons):
            return "undecided"
        wrong = [c for c in told if c.printed is not None and c.rejects(c.printed, self.chance)]
        right = [c for c in told if c not in wrong and (c.printed == c.corrected or c.rival != c.printed)]
        sure = any(c.rival is not None and c.power(self.chance) >= POWER for c in right)
        if wrong:
            return "holds in part" if sure else "fails"
        return "holds" if sure else "undecided"

    @property
    def corrected(self) -> Word:
        """What becomes of the corrected form; nothing, where the data could not have rejected a wrong one."""
        if not all(c.sound and math.isfinite(c.critical(self.chance)) for c in self.comparisons):
            return "undecided"
        if any(c.rejects(c.corrected, self.chance) for c in self.comparisons):
            return "fails"
        return "holds" if self.power >= POWER else "undecided"

    @property
    def power(self) -> float:
        """Largest power of a simulated comparison to reject its rival: one of them suffices to decide."""
        return self._power(simulated=True)

    @property
    def power_computed(self) -> float | None:
        """The same of computed comparisons, which have no noise; None where there is none."""
        return self._power(simulated=False) if any(not c.simulated for c in self.comparisons) else None

    def _power(self, *, simulated: bool) -> float:
        chosen = [c for c in self.comparisons if c.simulated == simulated and c.rival is not None]
        return max((c.power(self.chance) for c in chosen), default=0.0)

    @property
    def derived(self) -> bool:
        """Whether every step of the derivation was confirmed."""
        return not self.unconfirmed

    @property
    def control_failed(self) -> bool:
        """Whether the check failed where an assumption was violated, as it must."""
        return bool(self.controls) and all(c.sound and c.rejects(c.corrected, self.chance) for c in self.controls)

    @property
    def decisive(self) -> bool:
        """Whether the claim is settled: printed form decided, corrected form confirmed, derived, control as it must."""
        settled = self.printed != "undecided" and self.corrected == "holds"
        return settled and self.derived and self.control_failed

    def strongest(self) -> Comparison:
        """Return the comparison furthest from a printed form that differs, else from a rival; simulated ones first."""

        def rank(c: Comparison) -> tuple[bool, bool, float]:
            told = c.printed is not None and c.printed != c.corrected
            form = c.printed if told else c.rival
            return told, c.freedom is not None, abs(c.distance(form)) if form is not None else 0.0

        return max(self.comparisons, key=rank)

    def _repr_html_(self) -> str:
        import pandas  # half a second, and only a notebook needs it

        title = f"{self.claim}: {self.printed} as printed, {self.corrected} as corrected"
        table = pandas.DataFrame(self.to_dict()["comparisons"]).to_html(index=False)
        return f"<p>{escape(title)}</p>{table}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; infinite distances become None.

        ``printed_holds`` is false for a claim that holds in part (``printed`` says so), None for one that is undecided;
        ``z_printed`` is None where no simulated comparison carries the printed form (an inequality, a limit).
        """
        chosen = self.strongest()
        z_corrected = max((c.distance(c.corrected) for c in self.comparisons), key=abs)
        row: dict[str, Any] = {
            "claim": self.claim,
            "printed": self.printed,
            "printed_holds": {"holds": True, "fails": False, "holds in part": False}.get(self.printed),
            "corrected_holds": {"holds": True, "fails": False}.get(self.corrected),
            "z_printed": None if chosen.printed is None else _finite(chosen.distance(chosen.printed)),
            "z_corrected": _finite(z_corrected),
            "derived": self.derived,
            "unconfirmed_steps": list(self.unconfirmed),
            "control_failed": self.control_failed,
            "decisive": self.decisive,
            "power": self.power,
            "power_computed": self.power_computed,
        }
        row["comparisons"] = [_comparison(c, self.chance) for c in self.comparisons]
        row["controls"] = [_comparison(c, self.chance) for c in self.controls]
        return row


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _comparison(c: Comparison, chance: float) -> dict[str, Any]:
    return {
        "name": c.name,
        "value": c.value,
        "error": c.error,
        "kind": "computed" if c.freedom is None else "simulated",
        "printed": None if c.printed is None else _finite(c.printed),
        "corrected": c.corrected,
        "rival": None if c.rival is None else _finite(c.rival),
        "z_printed": None if c.printed is None else _finite(c.distance(c.printed)),
        "z_corrected": _finite(c.distance(c.corrected)),
        "critical": _finite(c.critical(chance)),
        "power": c.power(chance),
    }


def chance_each(comparisons: Sequence[Comparison]) -> float:
    """Return the chance of a false alarm that each comparison of a run may have."""
    random = sum(c.freedom is not None for c in comparisons)
    return FAMILY_ERROR / max(1, random)
