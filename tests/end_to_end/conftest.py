"""One real cluster per mode for all tests that need it."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.cluster import MODES, Cluster, Clusters


@pytest.fixture(scope="session")
def _clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    clusters = Clusters(tmp_path_factory.mktemp)
    yield clusters
    clusters.close()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, _clusters: Clusters) -> Cluster:
    """Return a cluster in the mode that the module asks for (`in_modes`)."""
    return _clusters.use(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by the mode of their cluster, so that each starts once, and "handle" follows "fast"."""

    def mode(item: pytest.Item) -> int:
        parameters = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        return MODES.index(parameters["cluster"]) if "cluster" in parameters else -1

    items.sort(key=mode)
