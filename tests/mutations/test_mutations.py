"""Plant every fault of the table in a copy of the project: the named tests must fail by assertion."""

import pytest

from tests.mutations.faults import faults

FAULTS = faults()
pytestmark = [pytest.mark.mutations, pytest.mark.timeout(3700)]  # each run of a fault has a limit of its own


@pytest.fixture(scope="session")
def sound(mutations):
    """The record, if the named tests pass without any fault."""
    outcome = mutations.unchanged()
    if outcome.word != "missed":
        pytest.exit(f"the tests do not pass as they are, so that nothing follows from a fault: {outcome.told}", 1)
    return mutations


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_is_caught(sound, fault):
    outcome = sound.found(fault)
    assert outcome.word == "caught", f"{fault.file}: {fault.wrong}: {outcome.word}, {outcome.told}"
