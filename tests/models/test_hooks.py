"""Hooks: what they see and change, in the thread that set them alone, and that none outlives its block."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kis_core.models.hooks import hooked, keep_positions


class Rerun(BaseException):
    """As a page's script is ended: not an Exception, so nothing that catches those sees it."""


ENDINGS = (RuntimeError, KeyboardInterrupt, Rerun)
PATIENCE = 10.0  # seconds before a thread that never answers fails the test; they answer in microseconds


class Doubling(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * 2


class WithCache(nn.Module):
    """Like a block that hands on more than its output."""

    def forward(self, inputs: Tensor) -> tuple[Tensor, str, int]:
        return inputs * 2, "cache", 7


@pytest.fixture
def chain() -> nn.Sequential:
    """Three modules; 1 in, 8 out."""
    return nn.Sequential(Doubling(), Doubling(), Doubling())


ONE = torch.ones(1)


def hooks_on(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules())


class TestSeeing:
    def test_number_input_and_output_of_each_module_in_the_order_they_run(self, chain: nn.Sequential) -> None:
        seen: list[tuple[int, float, float]] = []
        with hooked([chain[2], chain[0], chain[0]], lambda number, i, o: seen.append((number, i.item(), o.item()))):
            assert chain(ONE).item() == 8
            chain(ONE * 3)
        chain(ONE * 5)
        assert seen == [(1, 1, 2), (2, 1, 2), (0, 4, 8), (1, 3, 6), (2, 3, 6), (0, 12, 24)]

    def test_of_a_tuple_the_first_part_which_alone_is_changed(self) -> None:
        seen: list[tuple[float, float]] = []
        module = WithCache()
        with hooked([module], lambda _, i, o: seen.append((i.item(), o.item()))):
            assert module(ONE) == (2.0, "cache", 7)
        assert seen == [(1.0, 2.0)]
        with hooked([module], lambda _, __, output: output + 10):
            assert module(ONE) == (12.0, "cache", 7)
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(module, ONE).result(PATIENCE) == (2.0, "cache", 7)


class TestChanging:
    def test_a_tensor_takes_the_outputs_place_for_all_that_follow(self, chain: nn.Sequential) -> None:
        seen: list[float] = []
        added = torch.full((1,), 10.0, requires_grad=True)

        def add(number: int, inputs: Tensor, output: Tensor) -> Tensor | None:
            seen.append(inputs.item())
            return output + added if number == 0 else None

        with hooked([chain[0], chain[1]], add):
            actual = chain(ONE)
        assert actual.item() == ((2 + 10) * 2) * 2
        assert seen == [1.0, 12.0]
        assert chain(ONE).item() == 8
        actual.backward()
        assert added.grad == 4.0

    def test_an_inner_block_takes_only_its_own_hook(self, chain: nn.Sequential) -> None:
        """Also where both call the same function, and beside a hook of somebody else."""
        seen: list[float] = []

        def add(_: int, __: Tensor, output: Tensor) -> Tensor:
            return output + 10

        chain[1].register_forward_hook(lambda *_: seen.append(1))
        with hooked([chain[0]], add):
            with hooked([chain[0]], lambda _, __, output: seen.append(output.item())):
                chain(ONE)
            with hooked([chain[0], chain[0]], add):
                assert chain(ONE).item() == (2 + 30) * 4
            assert chain(ONE).item() == (2 + 10) * 4
        assert hooks_on(chain) == 1
        assert seen == [12.0, 1, 1, 1]


@pytest.mark.parametrize("ending", ENDINGS)
class TestTheyAreGone:
    @pytest.fixture(autouse=True)
    def gone(self, chain: nn.Sequential) -> Iterator[None]:
        yield
        assert hooks_on(chain) == 0
        assert chain(ONE).item() == 8

    def test_after_an_error_of_what_is_called(self, chain: nn.Sequential, ending: type[BaseException]) -> None:
        seen: list[int] = []

        def fail(number: int, inputs: Tensor, output: Tensor) -> None:
            seen.append(number)
            if number == 1:
                raise ending("seen")

        with pytest.raises(ending, match="seen"), hooked(list(chain), fail):
            chain(ONE)
        assert seen == [0, 1]

    @pytest.mark.parametrize("set_first", [False, True])
    def test_after_setting_one_of_them_failed(
        self, chain: nn.Sequential, monkeypatch: pytest.MonkeyPatch, ending: type[BaseException], set_first: bool
    ) -> None:
        """As a signal may come: between two instructions of the interpreter, before or after the hook was set."""
        setting = chain[1].register_forward_hook

        def interrupted(hook: Callable[..., Any]) -> None:
            if set_first:
                setting(hook)
            raise ending("no more hooks")

        monkeypatch.setattr(chain[1], "register_forward_hook", interrupted)
        with pytest.raises(ending, match="no more hooks"), hooked(list(chain), lambda _, __, output: output * 0):
            pytest.fail("the block was entered without all of its hooks")


def test_two_threads_hook_one_module_at_once_each_for_itself(chain: nn.Sequential) -> None:
    both = threading.Barrier(2)

    def run(added: float) -> tuple[float, float]:
        with hooked([chain[0]], lambda _, __, output: output + added):
            both.wait(PATIENCE)  # both hooks are set
            during = chain(ONE).item()
            both.wait(PATIENCE)  # and both have run
        both.wait(PATIENCE)
        return during, chain(ONE).item()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, (1.0, 5.0))) == [(12.0, 8.0), (28.0, 8.0)]
    assert hooks_on(chain) == 0


class Flattening(nn.Module):
    """A block that hands its last part all tokens in one row, as OPT does."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(4, 4)
        keep_positions(self.part, self)

    def forward(self, hidden: Tensor) -> Tensor:
        flat = hidden.reshape(-1, 4)
        return (flat + self.part(flat)).view(hidden.shape)


class TestKeepPositions:
    def test_the_block_is_no_part_of_its_part_and_copies_keep_together(self) -> None:
        block = Flattening()
        assert len(list(block.modules())) == 2
        assert set(block.state_dict()) == {"part.weight", "part.bias"}
        twin, shapes = copy.deepcopy(block), []
        with torch.no_grad(), hooked([twin.part], lambda _, inputs, __: shapes.append(tuple(inputs.shape))):
            twin(torch.zeros(2, 3, 4))
            block(torch.zeros(3, 3, 4))
        assert shapes == [(2, 3, 4)]
