"""Test the switch to ray in ``mambascope.analysis.engine`` with a stand-in: joblib is all that it goes through."""

import sys
import threading
import types

import joblib
import pytest
from joblib._parallel_backends import ThreadingBackend

from mambascope.analysis.trials import run_jobs
from mambascope.simulate import montecarlo
from tests.analysis.test_engine import digest, jobs


@pytest.fixture
def ray(monkeypatch):
    """A package that registers threads under the name of ray, and what it was asked for."""
    asked = {"registered": 0, "workers": set(), "threads": set()}

    class Threads(ThreadingBackend):
        def configure(self, n_jobs=1, parallel=None, **options):
            asked["workers"].add(n_jobs)
            return super().configure(n_jobs, parallel, **options)

        def submit(self, func, callback=None):
            def watched(*arguments, **named):
                asked["threads"].add(threading.current_thread().name)
                return func(*arguments, **named)

            return super().submit(watched, callback)

    def register_ray():
        asked["registered"] += 1
        joblib.register_parallel_backend("ray", Threads)

    for name in ("ray", "ray.util", "ray.util.joblib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["ray.util.joblib"], "register_ray", register_ray, raising=False)
    yield asked
    joblib.parallel.BACKENDS.pop("ray", None)


def test_ray_is_a_switch_and_gives_the_same_bytes(ray, monkeypatch):
    monkeypatch.setattr(montecarlo, "BLOCK_UPDATES", 40 * 4 * 100)
    expected = digest(run_jobs(jobs()))
    assert not ray["registered"]  # it is not touched before it is asked for
    assert digest(run_jobs(jobs(), engine="ray", workers=2)) == expected
    assert ray["registered"] == 1
    assert ray["workers"] == {2}
    assert ray["threads"] - {threading.current_thread().name}  # the work went through it
    assert joblib.Parallel()._backend.__class__.__name__ != "Threads"  # and is over with the run
