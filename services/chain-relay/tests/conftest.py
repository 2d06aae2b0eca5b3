"""One bus, one ledger and one relay for all tests of a module; each test goes on where the chain stands."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from support.relay import Enclave, RelayStage, relay_stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RelayStage]:
    async with relay_stage(tmp_path_factory.mktemp("relay")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def enclave(stage: RelayStage) -> Enclave:
    return await stage.enclave()


@pytest_asyncio.fixture(loop_scope="module")
async def tip(stage: RelayStage, enclave: Enclave) -> tuple[int, str]:
    """Number of the next batch, and the digest that it follows."""
    sequence, head = await stage.head()
    return sequence + 1, head
