"""The paper's claims that do not hold, in plain words: what is wrong with each, and what that means for a model.

A sentence is written for one verdict and is told only where a run comes to it; the numbers and formulas stand in the
claim itself.
"""

from __future__ import annotations

from mambascope.simulate.claims import Claim
from mambascope.simulate.verdict import Verdict

_FAILS, _IN_PART = "fails", "holds in part"

PLAIN: dict[str, tuple[str, str]] = {
    "theorem-4.2": (
        _FAILS,
        "the level comes out too small, as a factor lambda too many stands under its integral; most of all where "
        "modes forget quickly",
    ),
    "corollary-4.3": (
        _FAILS,
        "the slip of theorem-4.2, and the step size to the first power, not to the second",
    ),
    "corollary-4.4": (
        _FAILS,
        "what it calls a growth rate is a level, the size at which a state stops growing; how fast it gets there, by a "
        "factor lambda^2 a token, is another matter",
    ),
    "b.4-2": (_FAILS, "a state that forgets at once is not empty: it still holds what the last token wrote"),
    "spectrum": (
        _FAILS,
        "exp(-A) is not what a token keeps: that is exp(-dt |A|), different for every head and token. Mamba's steps dt "
        "start between 0.001 and 0.1, so models remember much longer than exp(-A) says",
    ),
    "divergence": (
        _FAILS,
        "decays near 1 do not make norms jump fivefold in a doubling of the text: while its inputs stay what they are, "
        "a state at most doubles then, and in the end it stops growing. Such jumps need inputs that change",
    ),
    "eq-3": (
        _IN_PART,
        "the decay A_bar is right; what a token writes, B_bar, has a factor dt exp(a dt) too many (Mamba's own code "
        "does not have it)",
    ),
    "eq-9-growth": (
        _IN_PART,
        "a decay goes to 1 in two ways: where |A| goes to 0 the level has no bound, where the step goes to 0 the state "
        "vanishes",
    ),
    "eq-9-vanishing": (
        _IN_PART,
        "with fast forgetting the level goes to what one token writes; that is 0 only for |A| without bound under a "
        "zero-order hold",
    ),
    "scaling-dt": (
        _IN_PART,
        "scaling Delta moves every eigenvalue exactly as scaling A by the same factor does; besides, it scales what is "
        "written",
    ),
    "compressing": (
        _IN_PART,
        "a factor on A moves all eigenvalues the same way; only a power of |A| below 1, which the paper's code uses, "
        "compresses large ones and inflates small ones",
    ),
}
"""By claim: the verdict it was written for, and the sentence."""


def in_plain_words(claim: Claim, verdict: Verdict) -> str:
    """Return a claim by name, with what is wrong in plain words where that is known, else with what it is about.

    Args:
        claim: any claim.
        verdict: what a run made of it.

    Returns:
        A line without a full stop.
    """
    word, sentence = PLAIN.get(claim.key, ("", ""))
    return f"{claim.key} ({claim.title})" + (f": {sentence}" if sentence and word == verdict.printed else "")
