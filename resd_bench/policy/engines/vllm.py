"""Sampling with vLLM inside this process, with the weights that are being trained.

vLLM is started without weights of its own; before the first sample after every change it gets the
trainer's, and is then checked against the trainer. On a CPU, where vLLM computes adapters slowly,
they are merged into the weights; on a GPU they are reloaded. The key-value cache of common prefixes
is shared. Each of several processes has a vLLM of its own, which communicates with no other. Left
out: one vLLM on several GPUs, quantised weights, an engine in another process.
"""

from __future__ import annotations

import copy
import gc
import importlib.util
import os
import random
import tempfile
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resd_bench.errors import UsageError, install_extra
from resd_bench.policy import limits, lora
from resd_bench.policy.engines.base import Generated, TrainedWeights, check_request, row_seed
from resd_bench.policy.engines.logprob_gap import GAP_TOLERANCE, measure
from resd_bench.policy.engines.registry import EngineSetup, EngineSpec
from resd_bench.policy.parallel.placement import SingleDevice
from resd_bench.types import Sampling, Stop

_VARIABLES = {
    # The weights are passed by reference, so the engine must be in this process.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
_CPU_VARIABLES = {"TORCHDYNAMO_DISABLE": "1"}
"""No compilation on CPUs: it takes longer than the runs they are used for."""
_ADAPTER_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter ranks that vLLM can reserve room for."""
_CPU_PASS_TOKENS = 4096
"""Least number of prompt tokens per pass; a prompt is not split."""
_CPU_SEQUENCES, _GPU_SEQUENCES = 64, 256
"""Maximum number of sequences decoded together."""
_CPU_HEAD_SIZE = 32
"""On a CPU, the head size must be a multiple of this."""
_ADAPTER, _NUMBER = "policy", 1
"""One adapter, replaced in place: a batch with another one, or without any, can be wrong."""
_running: list[Any] = []
"""The vLLM of this process, if there is one: ending one destroys what all of them share."""


class VllmEngine:
    """Batched sampling by vLLM from the current weights of a Hugging Face model.

    A process runs one vLLM at a time: if several engines take turns, each restarts it. Processes of
    one run start theirs together.
    """

    def __init__(
        self,
        model: Any,
        stop_ids: Collection[int],
        *,
        limit: int,
        adapted: Any = None,
        dtype: torch.dtype | None = None,
        cache_gib: float | None = None,
        swap_adapters: bool | None = None,
        weights: TrainedWeights | None = None,
        processes: int = 1,
    ) -> None:
        """Start vLLM for `model`; random states, threads and variables of the process are restored.

        `limit` is the longest sequence in tokens. `adapted` is the peft model around `model` if an
        adapter is trained; `swap_adapters`, the default on a GPU, reloads it after each update
        instead of merging it. `dtype` is that of vLLM's weights, by default the model's.
        `cache_gib` is the key-value cache in GiB. `weights` are the trainer's where `model` may
        lack them, as in one of several `processes`. UsageError if vLLM is missing or refuses.
        """
        self.stop_ids = sorted(stop_ids)
        self.limit = limit
        self.weights = weights or SingleDevice(model)
        device = self.weights.device
        self.dtype = dtype or model.dtype
        self._adapted = adapted
        swap = device.type == "cuda" if swap_adapters is None else swap_adapters
        self._swaps = adapted is not None and swap
        self._folder = tempfile.TemporaryDirectory(prefix="resd-vllm-")
        self._llm: Any = None
        self._synced = 0
        """How many times vLLM got weights since it was started."""
        self._stale = True
        self._request: Any = None
        """The request for the adapter to sample with; None with merged or plain weights."""
        _check_device(device, model.config, processes)
        _write_config(model, self._folder.name)
        self._options = _options(device, cache_gib, limit)
        if processes > 1:
            # vLLM then takes part in the processes' group, and finds its GPU by LOCAL_RANK.
            self._options["distributed_executor_backend"] = "external_launcher"
        if self._swaps:
            rank = _reserved(adapted.peft_config[lora.STUDENT].r)
            self._options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        with undisturbed(device):
            self._begin()

    def _begin(self) -> None:
        """Start vLLM, replacing one that may be running in this process."""
        vllm = _vllm(self.weights.device)
        _stop(*_running)
        self._llm = self._start(vllm)
        _running.append(self._llm)
        weakref.finalize(self, _stop, self._llm)
        self._synced, self._stale, self._request = 0, True, None

    def _start(self, vllm: Any) -> Any:
        try:
            return vllm.LLM(
                model=self._folder.name,
                # Weights that are never transferred stay random, and the first check finds them.
                load_format="dummy",
                # The default runs float32 models in bfloat16.
                dtype=str(self.dtype).removeprefix("torch."),
                max_model_len=self.limit,
                skip_tokenizer_init=True,
                trust_remote_code=False,
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
                enable_prefix_caching=True,
                disable_log_stats=True,
                **self._options,
            )
        except (ValueError, RuntimeError, NotImplementedError, AssertionError) as error:
            raise UsageError(_refused(error)) from error

    def sync_weights(self) -> None:
        """Take over the model's weights before the next sample."""
        self._stale = True

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt, see `Engine.generate`."""
        check_request(prompts, n, sampling, self.limit)
        named = range(len(prompts)) if numbers is None else numbers
        with undisturbed(self.weights.device):
            if self._llm not in _running:
                self._begin()
            if self._stale:
                self._sync()
            rows = [
                (prompt, row_seed(sampling, number, sample))
                for prompt, number in zip(prompts, named, strict=True)
                for sample in range(n)
            ]
            flat = self._sample(rows, sampling, self.stop_ids)
        return [flat[start : start + n] for start in range(0, len(flat), n)]

    def _sample(
        self, rows: Sequence[tuple[Sequence[int], int]], sampling: Sampling, stop_ids: Sequence[int]
    ) -> list[Generated]:
        """One continuation of each (prompt, seed)."""
        from vllm import SamplingParams

        settings = [
            SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p if sampling.temperature else 1.0,
                max_tokens=sampling.max_new_tokens,
                seed=seed if sampling.temperature else None,
                stop_token_ids=list(stop_ids),
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
            )
            for _, seed in rows
        ]
        asked = [{"prompt_token_ids": list(prompt)} for prompt, _ in rows]
        outputs = self._llm.generate(asked, settings, use_tqdm=False, lora_request=self._request)
        return [_generated(output.outputs[0], stop_ids) for output in outputs]

    def _sync(self) -> None:
        """Transfer the weights, and make sure that they arrived."""
        if not self._swaps:
            self._reload(lora.merged_state(self.weights.trained_model))
        else:
            if not self._synced:
                self._reload(lora.base_state(self.weights.trained_model))
            self._load_adapter()
        self._synced += 1
        self._check()
        self._stale = False

    def _reload(self, state: lora.NamedWeights) -> None:
        # A state dict names tied weights twice, a parameter list once; vLLM keeps two copies.
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": state})
        if next(state, None) is not None:
            raise RuntimeError("vLLM did not read all the weights that it was given")
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept what it had computed with the previous weights")

    def _load_adapter(self) -> None:
        from vllm.lora.request import LoRARequest

        # A path of its own each time: what was computed with the last one is known by its path.
        path = Path(self._folder.name) / f"adapter-{self._synced}"
        lora.save(self._adapted, path)
        self._llm.llm_engine.add_lora(LoRARequest(_ADAPTER, _NUMBER, str(path), load_inplace=True))
        self._llm.reset_prefix_cache()
        self._request = LoRARequest(_ADAPTER, _NUMBER, str(path))

    def _check(self) -> None:
        gap = measure(self.weights, lambda prompt, how: self._sample([(prompt, 0)], how, ())[0])
        allowed = GAP_TOLERANCE.get(self.dtype, GAP_TOLERANCE[torch.bfloat16])
        if not max(gap.logprobs, gap.greedy) <= allowed:
            raise RuntimeError(
                f"after weights were transferred {self._synced} times, vLLM and the trainer "
                "compute different models: log-probabilities of greedy tokens differ by "
                f"{gap.logprobs:.3g} nats, and rounding explains up to {allowed}. Use --engine "
                "fast or hf, and please report it"
            )


def _stop(*running: Any) -> None:
    """End these, as far as they are running, and free their memory."""
    for llm in running:
        if llm in _running:
            _running.remove(llm)
            with _group_kept():
                llm.llm_engine.engine_core.shutdown()
    gc.collect()


@contextmanager
def _group_kept() -> Iterator[None]:
    """Keep the group of the run's processes, which vLLM would destroy with its own when it ends.

    A vLLM that is alone makes a group of one process, which is its own. At the end of the program
    all groups may be gone before.
    """
    distributed = torch.distributed
    if distributed.is_initialized() and distributed.get_world_size() == 1:
        yield
        return
    destroy = distributed.destroy_process_group

    def destroy_others(group: Any = None) -> None:
        if distributed.is_initialized() and group not in (None, distributed.group.WORLD):
            destroy(group)

    distributed.destroy_process_group = destroy_others
    try:
        yield
    finally:
        distributed.destroy_process_group = destroy


_INSTALL = (
    f"--engine vllm needs vLLM, which is not installed: {install_extra('vllm')} on a machine with "
    "a GPU; docs/engines.md has the recipe for a CPU"
)


def check_vllm() -> None:
    """UsageError where vLLM is not installed, without importing it."""
    if importlib.util.find_spec("vllm") is None:
        raise UsageError(_INSTALL)


def _vllm(device: torch.device) -> Any:
    """The module, with its settings in the environment; UsageError if it is not installed."""
    for name, value in (_VARIABLES | (_CPU_VARIABLES if device.type == "cpu" else {})).items():
        os.environ.setdefault(name, value)
    check_vllm()
    try:
        import vllm
    except ImportError as error:
        raise UsageError(f"{_INSTALL} ({error})") from error
    if device.type == "cpu":
        # Its variable is read only at the first import, which may be over.
        import torch._dynamo

        torch._dynamo.config.disable = True
    return vllm


def _check_device(device: torch.device, config: Any, processes: int) -> None:
    if processes == 1 and device.type == "cuda" and device.index not in (None, 0):
        raise UsageError(
            f"--engine vllm samples on the first visible GPU, but the model is on {device}: choose "
            f"the GPU by CUDA_VISIBLE_DEVICES={device.index} and give --device cuda"
        )
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    if device.type == "cpu" and size % _CPU_HEAD_SIZE:
        raise UsageError(
            f"this model's attention heads have size {size}, and vLLM on a CPU needs multiples of "
            f"{_CPU_HEAD_SIZE}: use --engine fast or hf"
        )


def _write_config(model: Any, folder: str) -> None:
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)


def _options(device: torch.device, cache_gib: float | None, limit: int) -> dict[str, Any]:
    """The options that depend on the machine."""
    if device.type == "cpu":
        size = limits.VLLM_CPU_CACHE_BYTES if cache_gib is None else int(cache_gib * 2**30)
        return {
            "kv_cache_memory_bytes": size,
            "max_num_seqs": _CPU_SEQUENCES,
            "enforce_eager": True,
            # Splitting a prompt rewinds its random generator, which is impossible on a CPU.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(_CPU_PASS_TOKENS, limit),
        }
    free = torch.cuda.mem_get_info(device)[0]
    size = int(free * limits.VLLM_GPU_CACHE_SHARE if cache_gib is None else cache_gib * 2**30)
    # vLLM wants this share of memory free at the start; the cache has its own size.
    return {
        "kv_cache_memory_bytes": size,
        "max_num_seqs": _GPU_SEQUENCES,
        "gpu_memory_utilization": 0.05,
    }


def _reserved(rank: int) -> int:
    """The smallest rank of vLLM's that is large enough; UsageError if there is none."""
    for reserved in _ADAPTER_RANKS:
        if rank <= reserved:
            return reserved
    raise UsageError(f"--lora-rank {rank}: vLLM accepts adapters up to rank {_ADAPTER_RANKS[-1]}")


def _refused(error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"vLLM does not start for this model: {first} Give --engine-memory (GiB of key-value "
        "cache), a smaller --context-limit, or --engine fast or hf"
    )


def _generated(output: Any, stop_ids: Sequence[int]) -> Generated:
    ids = tuple(output.token_ids)
    logprobs = tuple(float(at[i].logprob) for i, at in zip(ids, output.logprobs, strict=True))
    return Generated(ids, logprobs, Stop.EOS if ids and ids[-1] in stop_ids else Stop.LENGTH)


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Restore what vLLM changes in this process, which computes on `device`.

    These are the states of global random generators, torch's function to set threads, and
    environment variables that child processes would inherit (including libraries to preload). Left
    as they are: vLLM's own variables, and `torch.distributed`, which is in use.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    variables = dict(os.environ)
    # To look at another GPU would take memory of it, which belongs to another process.
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_num_threads = set_num_threads
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        _restore(variables)


def _restore(variables: Mapping[str, str]) -> None:
    for name in [n for n in os.environ if n not in variables and not _its_own(n)]:
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _its_own(name: str) -> bool:
    return name.startswith(("VLLM_", "TORCHDYNAMO_"))


def _build(setup: EngineSetup) -> VllmEngine:
    return VllmEngine(
        setup.model,
        setup.stop_ids,
        limit=setup.limit,
        adapted=setup.adapted,
        # The precision of the trainer's matrix products.
        dtype=torch.bfloat16 if setup.config.autocast else None,
        cache_gib=setup.config.engine_memory,
        weights=setup.weights,
        processes=setup.processes,
    )


ENGINE = EngineSpec(
    name="vllm",
    summary="vLLM in each process of the run, on its GPU or the CPU",
    build=_build,
    weights="copy",
    several_processes=True,
    options=("engine_memory",),
    check_installed=check_vllm,
)
