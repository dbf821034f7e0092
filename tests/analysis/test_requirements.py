"""What a computation needs: sizes by hand, more never cheaper, and a refusal that says what would do."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from kis_core import machine
from kis_core.analysis import requirements
from kis_core.analysis.requirements import choose, moment_bytes, required_bytes, requirements_of
from kis_core.covariance import whitener
from kis_core.covariance.moment import COLUMN_BLOCKS
from kis_core.machine import DTYPE_BYTES, Device, Speed
from kis_core.models import catalog
from kis_core.models.catalog import ModelEntry
from kis_core.models.loading import OVERHEAD
from tests import tiny


def sized(name: str, family: str, parameters: int, layers: int, width: int, mlp_width: int) -> ModelEntry:
    """A size without a model."""
    return ModelEntry(name, family, name, parameters, layers, width, mlp_width)


GPT2 = sized("gpt2", "GPT-2", 124_439_808, 12, 768, 3072)
LLAMA = sized("llama-2-7b", "Llama", 6_738_415_616, 32, 4096, 11008)
LLAMA_70B = sized("llama-2-70b", "Llama", 68_976_648_192, 80, 8192, 28672)
GIGA = 10**9
TWO_GIGABYTES = Device("cpu", "a small machine", "cpu", 2 * 1024**3, 2 * 1024**3)
BIG = Device("cpu", "a big machine", "cpu", 500 * GIGA, 500 * GIGA)
GPU = Device("cuda:0", "a GPU", "cuda", 24 * GIGA, 24 * GIGA)
SPEED = Speed(forward=1e12, product=1e11, factor=1e10)

models = st.builds(
    sized,
    *(st.just("m"), st.sampled_from(["GPT-2", "Llama"]), st.integers(1000, 10**12)),
    *(st.integers(1, 100), st.integers(8, 20_000), st.integers(8, 40_000)),
)
machines = st.builds(
    Device,
    *(st.just("d"), st.just("d"), st.sampled_from(["cpu", "cuda", "mps"]), st.just(10**15), st.integers(0, 10**13)),
    half=st.sampled_from(["bfloat16", "float16"]),
)


class TestSizes:
    def test_gpt2_small_by_hand(self) -> None:
        actual = requirements_of(GPT2, 100_000, device=BIG, dtype="float32", speed=SPEED)
        assert actual.weights_bytes == 497_759_232
        assert actual.moments_bytes == 12 * 3072 * 3072 * 8 == 905_969_664
        assert (actual.passes, actual.whole_passes, actual.forward_tokens) == (1, 1.0, 100_000)
        assert (actual.fits, actual.reason, actual.nearest) == (True, "", None)
        assert (actual.device, actual.dtype, actual.free_bytes) == ("cpu", "float32", 500 * GIGA)
        forward = 2 * 84_934_656 * 100_000 / 1e12  # 12 layers of 4·768² + 2·768·3072
        sums = 12 * 2 * 3072**2 * 0.625 * 100_000 / 1e11
        factors = 12 * (5 / 3) * 3072**3 / 1e10
        assert actual.seconds == pytest.approx(forward + sums + factors, rel=1e-12)
        assert requirements_of(GPT2, 100_000, device=BIG, dtype="bfloat16").weights_bytes == 248_879_616
        assert requirements_of(GPT2, 100_000, device=BIG, dtype="float32").seconds is None
        unmeasured = requirements_of(GPT2, 1, device=BIG, dtype="float32", speed=replace(SPEED, factor=None)).seconds
        assert unmeasured == pytest.approx((forward + sums) / 100_000 + factors / 10, rel=1e-9)
        assert (1 + 1 / COLUMN_BLOCKS) / 2 == machine.TRIANGLE == 0.625
        assert whitener.ALL_EIGENVALUES == machine.ALL_EIGENVALUES

    @pytest.mark.parametrize("name", tiny.ARCHITECTURES)
    def test_block_parameters_are_those_of_the_layers(self, name: str) -> None:
        """Against a model's own matrices; the widths are those of real ones, in small."""
        config, inner = tiny.configs()[name], 88 if name == "Llama" else 128
        config.update({"hidden_size": 32, "intermediate_size": inner, "n_inner": inner})
        if name == "Llama":
            config.update({"num_key_value_heads": 2, "head_dim": 16})
        made = tiny.on_meta(config)
        blocks = made.get_submodule({"GPT-NeoX": "gpt_neox.layers", "Llama": "model.layers"}.get(name, "transformer.h"))
        matrices = sum(weight.numel() for weight in blocks.parameters() if weight.ndim == 2)
        size = sized("m", "", made.num_parameters(), 3, 32, inner)
        assert requirements.block_parameters(size) == matrices
        assert requirements.block_parameters(replace(size, parameters=1000)) == 1000, "never more than there are"


class TestGroups:
    def test_a_group_stops_after_its_last_layer(self) -> None:
        """Sums of four layers fit at once: 0-3 run 4 layers of 12, 4-7 run 8, 8-11 all."""
        weights, moment = 497_759_232, moment_bytes(3072)
        device = replace(BIG, kind="cuda", free_bytes=int((weights * OVERHEAD + 4.5 * moment) / 0.85))
        actual = requirements_of(GPT2, 1000, device=device, dtype="float32", speed=SPEED)
        assert (actual.passes, actual.forward_tokens) == (3, 3000)
        assert actual.whole_passes == pytest.approx((4 + 8 + 12) / 12)
        few = requirements_of(GPT2, 1000, device=BIG, dtype="float32", layers=[2, 0, 2])
        assert (few.passes, few.whole_passes, few.moments_bytes) == (1, 0.25, 2 * moment)
        none = requirements_of(GPT2, 1000, device=BIG, dtype="float32", layers=[], speed=SPEED)
        assert (none.passes, none.whole_passes, none.moments_bytes, none.seconds) == (0, 0, 0, 0)

    def test_what_is_loaded_no_longer_counts(self) -> None:
        assert requirements.budget(GPU, 0) - requirements.budget(GPU, 10 * GIGA) == 12 * GIGA
        assert requirements.budget(GPU, 0) == pytest.approx(0.85 * 24 * GIGA)
        assert requirements.budget(GPU, 24 * GIGA) == 0

    @given(st.sets(st.integers(0, 200)), st.integers(1, 60), st.integers(1, 20))
    def test_groups_are_few_even_and_complete(self, layers: set[int], width: int, most: int) -> None:
        groups = requirements.grouped(list(layers), width, most * moment_bytes(width) + 7)
        assert [layer for group in groups for layer in group] == sorted(layers)
        sizes = [len(group) for group in groups]
        assert max(sizes, default=0) <= most
        assert max(sizes, default=0) - min(sizes, default=0) <= 1
        assert len(groups) == -(-len(layers) // most)
        with pytest.raises(MemoryError, match="one layer takes 800 bytes; 799 are there"):
            requirements.grouped([0], 10, 799)


class TestNeverCheaper:
    @settings(deadline=None)  # the catalogue is read at the first example
    @given(models, machines, st.sampled_from(sorted(DTYPE_BYTES)))
    def test_what_is_required_is_just_enough(self, model: ModelEntry, device: Device, dtype: str) -> None:
        least = required_bytes(model, device, dtype)
        enough = requirements_of(model, 10, device=replace(device, free_bytes=least), dtype=dtype)
        assert enough.fits
        assert 1 <= enough.passes <= model.layers
        longer = (requirements_of(model, n, device=device, dtype=dtype, speed=SPEED).seconds for n in (10, 11))
        if device.free_bytes >= least:
            assert 0 < next(longer) < next(longer)
        assert enough.nearest is None
        assert required_bytes(model, device, device.half) <= required_bytes(model, device, "float32")
        short = requirements_of(model, 10, device=replace(device, free_bytes=least - 1), dtype=dtype)
        assert not short.fits
        assert (short.passes, short.seconds) == (0, None)
        assert least > model.parameters * DTYPE_BYTES[dtype] + moment_bytes(model.mlp_width)


class TestRefusal:
    def test_seventy_billion_on_two_gigabytes_without_a_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise AssertionError("a model was made")

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
        monkeypatch.setattr(AutoModelForCausalLM, "from_config", fail)
        catalog.entries()  # read once a process
        tracemalloc.start()
        actual = requirements_of(LLAMA_70B, 100_000, device=TWO_GIGABYTES, dtype="float32", speed=SPEED)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**6
        assert not actual.fits
        assert actual.weights_bytes == 275_906_592_768
        assert f"llama-2-70b in float32 needs about {actual.required_bytes:,} bytes" in actual.reason
        assert "a small machine has 2,147,483,648 bytes free (2.15 GB)" in actual.reason
        assert f"The nearest model that fits here is {actual.nearest}." in actual.reason
        nearest = catalog.find(actual.nearest or "")
        assert nearest is not None
        assert requirements_of(nearest, 100_000, device=TWO_GIGABYTES, dtype="float32").fits

    def test_the_same_family_comes_first_then_the_largest_that_is_readable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        readable = [one for one in catalog.entries() if one.safetensors]
        fitting = [one for one in readable if required_bytes(one, GPU, "bfloat16") <= GPU.free_bytes]
        llamas = [one for one in fitting if one.family == "Llama"]
        actual = requirements_of(LLAMA_70B, 10, device=GPU, dtype="bfloat16")
        assert actual.nearest in {one.name for one in llamas}
        assert catalog.find(actual.nearest).parameters == max(one.parameters for one in llamas)  # type: ignore[union-attr]
        alone = requirements_of(replace(LLAMA_70B, family="none"), 10, device=GPU, dtype="bfloat16")
        assert catalog.find(alone.nearest).parameters == max(one.parameters for one in fitting)  # type: ignore[union-attr]
        nothing = requirements_of(GPT2, 10, device=replace(TWO_GIGABYTES, free_bytes=100), dtype="float32")
        assert nothing.nearest is None
        assert "No smaller model of the catalogue fits either" in nothing.reason
        unread = tuple(replace(one, safetensors=one.name != actual.nearest) for one in catalog.entries())
        monkeypatch.setattr(catalog, "entries", lambda: unread)
        second = requirements_of(LLAMA_70B, 10, device=GPU, dtype="bfloat16").nearest
        assert second in {one.name for one in llamas} - {actual.nearest}


class TestChoice:
    def test_the_first_device_that_fits_and_the_most_digits(self) -> None:
        together = replace(GPU, name="all", free_bytes=300 * GIGA)
        for model, devices, expected in (
            (GPT2, (GPU, BIG), ("cuda:0", "float32")),
            (LLAMA, (GPU, BIG), ("cuda:0", "bfloat16")),
            (LLAMA, (replace(GPU, half="float16"), BIG), ("cuda:0", "float16")),
            (LLAMA, (replace(GPU, free_bytes=GIGA), BIG), ("cpu", "float32")),
            (LLAMA_70B, (GPU, together, BIG), ("all", "bfloat16")),
            (LLAMA_70B, (GPU, TWO_GIGABYTES), ("cuda:0", "bfloat16")),  # fits nowhere
        ):
            assert choose(model, devices) == expected

    @given(models, st.lists(machines, min_size=1, max_size=4))
    def test_fits_if_anything_does(self, model: ModelEntry, devices: list[Device]) -> None:
        named = [replace(device, name=str(k)) for k, device in enumerate(devices)]
        name, dtype = choose(model, named)
        anywhere = any(requirements_of(model, 1, device=d, dtype=t).fits for d in named for t in d.dtypes)
        assert requirements_of(model, 1, device=named[int(name)], dtype=dtype).fits == anywhere
