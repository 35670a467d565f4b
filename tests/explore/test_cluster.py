"""Exploration in parts on a cluster finds what exploration here finds, whatever happens to the parts."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from invariants import INVARIANTS
from model.kernels import KERNELS
from proofs.check.jobs import Job, system_and_claims
from proofs.check.scopes import scope_of
from proofs.check.tables import run
from proofs.engine import Exploration
from proofs.explore import cluster
from proofs.explore.cluster import ClusterTask, owner
from proofs.explore.search import explore

SCOPE = scope_of(2, 1, 2, 1, 1)


def job(name: str) -> Job:
    """All that is claimed of a kernel."""
    kernel = next(k for k in KERNELS if k.name == name)
    names = tuple(i.name for i in INVARIANTS if i.applies_to(kernel))
    return Job(name, names, SCOPE, "explore", None, 0, (), "")


def question(name: str) -> ClusterTask:
    return ClusterTask(functools.partial(system_and_claims, job(name)), SCOPE)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray", reason="needs Ray: pip install 'cow-proofs[cluster]'")
    module = cluster.connected("local:2")
    yield module
    module.shutdown()


@functools.cache
def here(name: str) -> Exploration:
    system, claims = system_and_claims(job(name))
    return explore(system, SCOPE, claims)


def same(found: Exploration, name: str) -> bool:
    return replace(found, seconds=0) == replace(here(name), seconds=0)


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_every_state_has_one_owner_and_owners_have_about_as_many(parts: int) -> None:
    states = np.random.default_rng(0).integers(0, 1 << 40, (100_000, 2)).astype(np.uint64)
    owners = owner(states, parts)
    assert (owner(states[::-1], parts) == owners[::-1]).all()
    shares = np.bincount(owners.astype(int), minlength=parts) / len(states)
    assert len(shares) == parts
    assert abs(shares - 1 / parts).max() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parts"), [("v5.9", 1), ("v5.9", 2), ("v6.15", 2)])
def test_a_cluster_finds_the_same_verdicts_counts_and_paths(ray: Any, name: str, parts: int) -> None:
    assert same(cluster.explore(ray, question(name), parts=parts), name)


@pytest.mark.slow
@pytest.mark.parametrize("when", [1, 6, 12])
def test_the_loss_of_a_worker_loses_nothing(ray: Any, when: int) -> None:
    lost = []

    def lose(levels: Sequence[int], actors: Sequence[Any]) -> None:
        if len(levels) == when and not lost:
            lost.append(levels[-1])
            ray.kill(actors[1])

    found = cluster.explore(ray, question("v5.9"), parts=2, level_done=lose)
    assert lost
    assert same(found, "v5.9")


@pytest.mark.slow
def test_an_exploration_on_a_cluster_that_ended_early_goes_on_from_the_last_level(ray: Any, tmp_path: Path) -> None:
    def interrupt(levels: Sequence[int], actors: Sequence[Any]) -> None:
        if len(levels) == 9:
            raise KeyboardInterrupt

    first = cluster.explore(ray, question("v5.9"), parts=2, checkpoints=tmp_path, timeout=1e-9)
    assert first.stopped.startswith("out of time")
    with pytest.raises(KeyboardInterrupt):
        cluster.explore(ray, question("v5.9"), parts=2, checkpoints=tmp_path, level_done=interrupt)
    levels = []
    found = cluster.explore(
        ray, question("v5.9"), parts=2, checkpoints=tmp_path, level_done=lambda known, _: levels.append(len(known))
    )
    assert levels[0] == 10
    assert same(found, "v5.9")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_table_is_spread_over_the_cluster(ray: Any, tmp_path: Path) -> None:
    work = [replace(job(name), invariants=("swap-slot",), key=name) for name in ("v5.7", "v5.9")]
    spread = dict(run(work, tmp_path / "there", ray=ray))
    alone = dict(run(work, tmp_path / "here"))
    assert {j.kernel: [replace(c, seconds=0) for c in cells] for j, cells in spread.items()} == {
        j.kernel: [replace(c, seconds=0) for c in cells] for j, cells in alone.items()
    }
