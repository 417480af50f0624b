"""The copy that faults are planted in, made once, and the table that is written when they are done."""

import pytest


@pytest.fixture(scope="session")
def mutations(request, tmp_path_factory):
    from tests.mutations.copies import ROOT, Copy
    from tests.mutations.record import Record

    record = Record(ROOT / "build" / "mutations", Copy(tmp_path_factory.mktemp("copy")))
    yield record
    record.copy.close()
    summary = record.write()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary}\nwritten to {record.folder / 'mutations.md'}", flush=True)
