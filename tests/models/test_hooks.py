"""Hooks: what they see and change, in the thread that set them alone, and that none outlives its block."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kis_core.models.hooks import hooked


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


def elsewhere(work: Callable[[], Any]) -> Any:
    """What the work gives in a thread of its own."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(PATIENCE)
    assert found, "the thread failed or hangs"
    return found[0]


class TestWhatTheySee:
    def test_number_input_and_output_of_each_module_in_the_order_they_run(self, chain: nn.Sequential) -> None:
        seen: list[tuple[int, float, float]] = []
        with hooked([chain[2], chain[0]], lambda number, i, o: seen.append((number, i.item(), o.item()))):
            assert chain(ONE).item() == 8
        assert seen == [(1, 1.0, 2.0), (0, 4.0, 8.0)]

    def test_of_a_tuple_the_first_part(self) -> None:
        seen: list[tuple[float, float]] = []
        module = WithCache()
        with hooked([module], lambda _, i, o: seen.append((i.item(), o.item()))):
            assert module(ONE) == (2.0, "cache", 7)
        assert seen == [(1.0, 2.0)]

    def test_a_module_named_twice_is_seen_twice(self, chain: nn.Sequential) -> None:
        seen: list[int] = []
        with hooked([chain[1], chain[1]], lambda number, _, __: seen.append(number)):
            chain(ONE)
        assert seen == [0, 1]

    def test_every_pass_within_the_block(self, chain: nn.Sequential) -> None:
        seen: list[float] = []
        with hooked([chain[0]], lambda _, i, __: seen.append(i.item())):
            chain(ONE)
            chain(ONE * 3)
        chain(ONE * 5)
        assert seen == [1.0, 3.0]

    def test_no_modules_no_hooks(self, chain: nn.Sequential) -> None:
        with hooked([], lambda *_: ONE * 0):
            assert hooks_on(chain) == 0
            assert chain(ONE).item() == 8


class TestWhatTheyChange:
    def test_a_tensor_takes_the_outputs_place_for_all_that_follow(self, chain: nn.Sequential) -> None:
        seen: list[float] = []

        def add(number: int, inputs: Tensor, output: Tensor) -> Tensor | None:
            seen.append(inputs.item())
            return output + 10 if number == 0 else None

        with hooked([chain[0], chain[1]], add):
            assert chain(ONE).item() == ((2 + 10) * 2) * 2
        assert seen == [1.0, 12.0]
        assert chain(ONE).item() == 8

    def test_a_tensor_in_a_tuple_leaves_the_rest_of_it(self) -> None:
        module = WithCache()
        with hooked([module], lambda _, __, output: output + 10):
            assert module(ONE) == (12.0, "cache", 7)

    def test_an_inner_block_sees_what_the_outer_one_put_out(self, chain: nn.Sequential) -> None:
        seen: list[float] = []
        with hooked([chain[0]], lambda _, __, output: output + 10):
            with hooked([chain[0]], lambda _, __, output: seen.append(output.item())):
                chain(ONE)
            assert chain(ONE).item() == 48, "leaving the inner block takes its own hook only"
        assert seen == [12.0]
        assert hooks_on(chain) == 0

    def test_gradients_flow_through_what_was_put_in(self, chain: nn.Sequential) -> None:
        added = torch.zeros(1, requires_grad=True)
        with hooked([chain[0]], lambda _, __, output: output + added):
            chain(ONE).backward()
        assert added.grad == 4.0


class TestTheyAreGone:
    def test_after_the_block_and_the_hooks_of_others_stay(self, chain: nn.Sequential) -> None:
        seen: list[int] = []
        chain[1].register_forward_hook(lambda *_: seen.append(1))
        with hooked(list(chain), lambda *_: None):
            assert hooks_on(chain) == 4
        assert hooks_on(chain) == 1
        chain(ONE)
        assert seen == [1]

    def test_hooks_of_the_same_function_that_others_set_stay(self, chain: nn.Sequential) -> None:
        """Another block, of this thread or another, may watch the same module with the same function."""

        def add(_: int, __: Tensor, output: Tensor) -> Tensor:
            return output + 10

        with hooked([chain[0]], add):
            with hooked([chain[0], chain[0]], add):
                assert chain(ONE).item() == (2 + 30) * 4
            assert hooks_on(chain) == 1
            assert chain(ONE).item() == (2 + 10) * 4

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_after_an_error_in_the_block(self, chain: nn.Sequential, ending: type[BaseException]) -> None:
        with pytest.raises(ending, match="midway"), hooked(list(chain), lambda _, __, output: output * 0):
            raise ending("midway")
        assert hooks_on(chain) == 0
        assert chain(ONE).item() == 8

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_after_an_error_of_what_is_called_which_ends_the_pass(
        self, chain: nn.Sequential, ending: type[BaseException]
    ) -> None:
        seen: list[int] = []

        def fail(number: int, inputs: Tensor, output: Tensor) -> None:
            seen.append(number)
            if number == 1:
                raise ending("seen")

        with pytest.raises(ending, match="seen"), hooked(list(chain), fail):
            chain(ONE)
        assert seen == [0, 1]
        assert hooks_on(chain) == 0

    @pytest.mark.parametrize("ending", ENDINGS)
    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_after_setting_one_of_them_failed(
        self, chain: nn.Sequential, monkeypatch: pytest.MonkeyPatch, at: int, ending: type[BaseException]
    ) -> None:
        def refuse(_: object) -> None:
            raise ending("no more hooks")

        monkeypatch.setattr(chain[at], "register_forward_hook", refuse)
        with pytest.raises(ending, match="no more hooks"), hooked(list(chain), lambda _, __, output: output * 0):
            pytest.fail("the block was entered without all of its hooks")
        assert hooks_on(chain) == 0

    def test_after_an_interrupt_the_moment_one_was_set(
        self, chain: nn.Sequential, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a signal may come: between two instructions of the interpreter."""
        setting = chain[1].register_forward_hook

        def interrupted(hook: Callable[..., Any]) -> None:
            setting(hook)
            raise KeyboardInterrupt

        monkeypatch.setattr(chain[1], "register_forward_hook", interrupted)
        with pytest.raises(KeyboardInterrupt), hooked(list(chain), lambda _, __, output: output * 0):
            pytest.fail("the block was entered after an interrupt")
        assert hooks_on(chain) == 0
        assert chain(ONE).item() == 8


class TestThreads:
    def test_another_thread_neither_sees_nor_is_seen(self, chain: nn.Sequential) -> None:
        seen: list[float] = []

        def note(_: int, inputs: Tensor, output: Tensor) -> Tensor:
            seen.append(inputs.item())
            return output + 10

        with hooked([chain[0]], note):
            assert elsewhere(lambda: chain(ONE * 3).item()) == 24
            assert chain(ONE).item() == 48
        assert seen == [1.0]

    def test_a_tuple_is_left_alone_in_another_thread(self) -> None:
        module = WithCache()
        with hooked([module], lambda _, __, output: output + 10):
            assert elsewhere(lambda: module(ONE)) == (2.0, "cache", 7)

    def test_two_threads_hook_one_module_at_once_each_for_itself(self, chain: nn.Sequential) -> None:
        both = threading.Barrier(2)

        def run(added: float) -> tuple[float, float]:
            with hooked([chain[0]], lambda _, __, output: output + added):
                both.wait(PATIENCE)  # both hooks are set
                during = chain(ONE).item()
                both.wait(PATIENCE)  # and both have run
            both.wait(PATIENCE)
            return during, chain(ONE).item()

        found: dict[float, tuple[float, float]] = {}
        threads = [threading.Thread(target=lambda n=n: found.update({n: run(n)})) for n in (1.0, 5.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert found == {1.0: (12.0, 8.0), 5.0: (28.0, 8.0)}
        assert hooks_on(chain) == 0
