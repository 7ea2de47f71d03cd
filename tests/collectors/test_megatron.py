"""Megatron-Core's pipeline schedules: what they did in real processes, and our hooks in one.

There is no GPU here: the example answers what Megatron asks of one with the CPU, so that the
schedules, the steps and the messages are Megatron's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("megatron.core", reason="Megatron-Core is not installed")

from megatron.core import parallel_state
from megatron.core.model_parallel_config import ModelParallelConfig
from megatron.core.pipeline_parallel import p2p_communication, schedules

from collectors.live.megatron import MegatronPipeline
from collectors.live.megatron_order import Order
from tests.support.launching import ROOT, record, torchrun
from tests.support.reading import Row, calls, facts, meta, rows
from tracer import Tracer

EXAMPLE = ROOT / "examples" / "train_megatron.py"
MICROBATCHES, STEPS, STEP = 4, 3, 1
ARGUMENTS = ("--steps", str(STEPS), "--microbatches", str(MICROBATCHES))
MESSAGE_BYTES = 4 * 2 * 16 * 4
"""A sequence of 4, 2 rows, 16 float32."""

distributed = pytest.mark.distributed
each_chunk_count = pytest.mark.parametrize("chunks", [1, 2])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By the number of model chunks per rank."""
    directories = {}
    for chunks in (1, 2):
        directory = directories[chunks] = tmp_path_factory.mktemp("megatron")
        more = ["--virtual-stages", str(chunks), "--save", directory / "parameters"]
        record(directory / "run", EXAMPLE, [*ARGUMENTS, *more], processes=2)
    return directories


def _actions(found: list[Row]) -> list[str]:
    return [
        f"{row['stage']}{row['name']}{row['microbatch']}"
        for row in found
        if row["kind"] in ("forward", "backward")
    ]


@distributed
@each_chunk_count
def test_forwards_and_backwards_are_those_of_the_plan(
    recorded: dict[int, Path], chunks: int
) -> None:
    run = recorded[chunks] / "run"
    for rank in (0, 1):
        plan = meta(run)["schedule"]["plan"][str(rank)]
        assert Counter(plan) == Counter(
            f"{rank + 2 * chunk}{kind}{microbatch}"
            for chunk in range(chunks)
            for kind in "FB"
            for microbatch in range(MICROBATCHES)
        )
        for step in range(STEPS):
            assert _actions(rows(run, rank, step=step)) == plan
        assert len(rows(run, rank, kind="step")) == STEPS
        assert [r["name"] for r in rows(run, rank, kind="optimizer")] == ["SGD.step"] * STEPS


@distributed
def test_one_chunk_per_rank_by_hand(recorded: dict[int, Path]) -> None:
    first, last = (_actions(rows(recorded[1] / "run", rank, step=STEP)) for rank in (0, 1))

    assert first == ["0F0", "0F1", "0B0", "0F2", "0B1", "0F3", "0B2", "0B3"]
    assert last == ["1F0", "1B0", "1F1", "1B1", "1F2", "1B2", "1F3", "1B3"]


@distributed
@each_chunk_count
def test_messages_carry_stage_and_microbatch_on_both_ends(
    recorded: dict[int, Path], chunks: int
) -> None:
    """A send carries the sender's stage, a receive the receiver's."""
    expected: Counter[tuple[Any, ...]] = Counter()
    for source in range(2 * chunks):
        for target in {source + 1, source - 1} & set(range(2 * chunks)):
            for microbatch in range(MICROBATCHES):
                expected[source % 2, "send", source, microbatch, target % 2] += 1
                expected[target % 2, "recv", target, microbatch, source % 2] += 1
    seen: Counter[tuple[Any, ...]] = Counter()
    for rank in (0, 1):
        for row in calls(recorded[chunks] / "run", rank, step=STEP):
            assert (row["group"], row["bytes"]) == ("pp:0-1", MESSAGE_BYTES)
            seen[rank, row["kind"], row["stage"], row["microbatch"], row["peer"]] += 1

    assert seen == expected


@distributed
@each_chunk_count
def test_each_message_is_of_the_same_microbatch_on_both_ends(
    recorded: dict[int, Path], chunks: int
) -> None:
    """A send and its receive have the same number, and lie one stage apart."""
    ends: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    for rank in (0, 1):
        for row in calls(recorded[chunks] / "run", rank, step=STEP):
            way = (rank, row["peer"]) if row["kind"] == "send" else (row["peer"], rank)
            ends.setdefault((*way, row["seq"]), []).append((row["stage"], row["microbatch"]))
    for (one_stage, one), (other_stage, other) in ends.values():
        assert one == other
        assert abs(one_stage - other_stage) == 1


@distributed
@each_chunk_count
def test_stages_and_groups_reach_the_run(recorded: dict[int, Path], chunks: int) -> None:
    run = recorded[chunks] / "run"
    for rank in (0, 1):
        assert facts(run, rank)["stages"] == [rank + 2 * chunk for chunk in range(chunks)]
        assert facts(run, rank)["groups"] == {"pp:0-1": {"dim": "pp", "ranks": [0, 1]}}
        assert facts(run, rank)["coordinates"] == {"pp": rank}
        assert facts(run, rank)["ended"] == "closed"
    assert meta(run)["schedule"]["virtual_stages"] == chunks


@distributed
@each_chunk_count
def test_the_parameters_are_the_same_bits_without_us(
    recorded: dict[int, Path], tmp_path: Path, chunks: int
) -> None:
    more = ("--virtual-stages", str(chunks), "--save", tmp_path / "parameters")
    torchrun(2, EXAMPLE, *ARGUMENTS, *more)
    for rank in (0, 1):
        with_us = torch.load(recorded[chunks] / f"parameters.{rank}")
        without = torch.load(tmp_path / f"parameters.{rank}")
        assert len(with_us) == len(without) == 4 * chunks
        assert all(torch.equal(a, b) for a, b in zip(with_us, without, strict=True))


@pytest.mark.parametrize(
    ("microbatches", "chunks", "group"), [(4, 2, 2), (8, 3, 4), (7, 2, 4), (5, 1, 5)]
)
def test_the_order_is_that_of_megatrons_table(microbatches: int, chunks: int, group: int) -> None:
    order = Order(rank=1, size=2, chunks=chunks, microbatches=microbatches, group=group)
    table = schedules.get_schedule_table(microbatches, chunks, group)

    assert order.forwards() == [(1 + 2 * chunk, microbatch) for microbatch, chunk in table]
    assert order.backwards() == [
        (1 + 2 * (chunks - 1 - chunk), microbatch) for microbatch, chunk in table
    ]


@pytest.mark.usefixtures("group")
def test_the_groups_of_parallel_state_get_their_names(tmp_path: Path) -> None:
    named: list[tuple[str, list[int]]] = []
    with Tracer(tmp_path / "run", collectors=[MegatronPipeline()]) as t:
        t.topology.note_group = lambda name, ranks: named.append((name, list(ranks)))  # type: ignore[method-assign]
        parallel_state.initialize_model_parallel()
    parallel_state.destroy_model_parallel()

    names = ("pp", "tp", "cp", "dp", "dp_cp", "ep", "etp", "edp")
    assert named == [(name, [0]) for name in names]


class _Chunk(torch.nn.Module):
    def __init__(self, config: ModelParallelConfig) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.config = config

    def set_input_tensor(self, tensors: list[Any]) -> None:
        pass


def _forward(batches: Iterator[torch.Tensor], chunk: _Chunk) -> tuple[torch.Tensor, Any]:
    output = chunk.weight * next(batches)
    return output, lambda output: (output.sum(), {})


def _step(chunk: _Chunk, microbatch: int) -> torch.Tensor:
    """Megatron's own forward and backward step, outside of a schedule."""
    output, _ = schedules.forward_step(
        _forward, iter([torch.ones(2)]), chunk, 1, None, [], chunk.config, 1,
        current_microbatch=microbatch,
    )  # fmt: skip
    schedules.backward_step(None, output, None, None, chunk.config)
    return output


def _config() -> Any:
    """What the two steps read of a configuration."""
    return SimpleNamespace(
        timers=None, enable_autocast=False, calculate_per_token_loss=False, grad_scale_func=None,
        num_moe_experts=None, mtp_num_layers=None, deallocate_pipeline_outputs=False,
    )  # fmt: skip


def test_steps_outside_of_a_schedule_have_a_microbatch_and_no_stage(tmp_path: Path) -> None:
    chunk = _Chunk(_config())
    with Tracer(tmp_path / "run", collectors=[MegatronPipeline()]):
        _step(chunk, 5)

    assert [
        (row["kind"], row["stage"], row["microbatch"])
        for row in rows(tmp_path / "run", 0)
        if row["kind"] in ("forward", "backward")
    ] == [("forward", None, 5), ("backward", None, 5)]


def test_an_error_of_the_training_passes_through(tmp_path: Path) -> None:
    with Tracer(tmp_path / "run", collectors=[MegatronPipeline()]), pytest.raises(StopIteration):
        schedules.forward_step(_forward, iter(()), _Chunk(_config()), 1, None, [], _config(), 1)

    assert facts(tmp_path / "run", 0)["ended"] == "closed"


def test_a_fault_of_ours_ends_the_tracing_alone(tmp_path: Path) -> None:
    chunk = _Chunk(_config())
    with Tracer(tmp_path / "run", collectors=[MegatronPipeline()]):
        output = _step(chunk, "no number")  # type: ignore[arg-type]

    assert output.item() == 2.0
    assert chunk.weight.grad is not None
    assert facts(tmp_path / "run", 0)["ended"].startswith("failed: ValueError")


def test_uninstall_puts_everything_back(tmp_path: Path) -> None:
    modules = (schedules, p2p_communication, parallel_state)
    before = [dict(vars(module)) for module in modules]
    with Tracer(tmp_path / "run", collectors=[MegatronPipeline()]):
        changed = {
            name
            for module, own in zip(modules, before, strict=True)
            for name, value in vars(module).items()
            if value is not own.get(name)
        }
    assert changed == {
        "initialize_model_parallel",
        "_batched_p2p_ops",
        "_p2p_ops",
        "forward_step",
        "backward_step",
        "forward_backward_no_pipelining",
        "forward_backward_pipelining_with_interleaving",
        "forward_backward_pipelining_without_interleaving",
    }
    assert [dict(vars(module)) for module in modules] == before
