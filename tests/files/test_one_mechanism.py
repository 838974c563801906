"""Untrusted files are read, and files are written, in one place each, which nothing bypasses."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.places import ROOT

CODE = [p for f in ("resd_bench", "envs", "baselines") for p in sorted((ROOT / f).rglob("*.py"))]

READERS = {
    *("json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "torch.load"),
    *("gzip.open", "gzip.decompress", "pickle.load", "pickle.loads", "np.load", "numpy.load"),
    *("csv.reader", "csv.DictReader", "zlib.decompress", "tarfile.open", "shelve.open"),
    *("open", "io.open", "*.open", "*.read_text", "*.read_bytes", "*.from_file"),
}
WRITERS = {
    *("*.write_text", "*.write_bytes", "*.mkdir", "*.touch", "*.savefig", "*.symlink_to"),
    *("os.mkdir", "os.makedirs", "os.rename", "os.replace", "os.unlink", "os.remove"),
    *("shutil.copy", "shutil.copyfile", "shutil.copy2", "shutil.copytree", "shutil.move"),
    *("shutil.rmtree", "*.rename", "*.unlink", "*.rmdir", "*.save_pretrained", "torch.save"),
    *("csv.writer", "csv.DictWriter", "*.to_csv"),
}
OWN = {
    "resd_bench/files/reading.py": "the mechanism itself",
    "resd_bench/files/writing.py": "the mechanism itself",
    "resd_bench/files/terminal.py": "the null device",
    "resd_bench/sweep/preloaded.py": "the null device",
    "resd_bench/records/schema": "the package's own schemas",
    "resd_bench/packaged_models.py": "the package's own defaults, and templates beside models",
    "resd_bench/nano/card.py": "the package's own template",
    "resd_bench/nano/pretrain.py": "in a folder that was looked through for links",
    "resd_bench/report/html/page.py": "the package's own scripts",
    "resd_bench/reproduce/paper_tables.py": "the package's own numbers",
    "resd_bench/scaffold/__init__.py": "the package's own templates",
    "resd_bench/jobs/export.py": "the package's own template",
    "resd_bench/report/spreadsheet.py": "into memory",
    "resd_bench/report/figures.py": "into memory",
    "resd_bench/report/verify.py": "what the command just made in a temporary folder",
    "resd_bench/records/manifest.py": "what the system says of itself, and weights to hash",
    "resd_bench/records/checkpoints.py": "into memory",
    "resd_bench/check": "children of this process, memory and /proc",
    "resd_bench/sandbox": "children of this process, which have limits of their own",
    "resd_bench/rollout/vector_env.py": "children of this process",
    "resd_bench/distributed/torch_group.py": "processes of one run",
    "resd_bench/models/chat_process.py": "a process with limits",
    "resd_bench/models/chat_renderer.py": "the process with limits",
    "resd_bench/policy/control_tokens.py": "a tokenizer that was tried out",
    "resd_bench/models/gguf.py": "a head within bounds, and the user's own cache of models",
    "resd_bench/policy/lora.py": "to a new folder",
    "resd_bench/policy/lm_policy.py": "to a new folder",
    "resd_bench/policy/engines/vllm.py": "to a temporary folder",
    "resd_bench/models/small.py": "the package's own defaults, and /proc",
    "resd_bench/machine": "/proc, and the limits of this process",
    "resd_bench/jobs/evaluation_process.py": "into memory",
    "resd_bench/interop": "a temporary folder, and what a child of this process leaves there",
    "resd_bench/commands/plan.py": "a tokenizer that was tried out",
    "envs/resd_envs/ifeval": "the package's own prompts, and answers with a limit",
    "envs/resd_envs/finer": "the package's own sentences",
    "envs/resd_envs/manufactoria": "the package's own prompts",
    "envs/resd_envs/bouncingsim": "the package's own prompts",
    "envs/resd_envs/textworld": "the user's own cache of games",
    "envs/resd_envs/python_functions/env.py": "the package's own prompts",
    "envs/resd_envs/games/packages.py": "the list of files of an installed package",
    "envs/resd_envs/scienceworld": "the package's own prompts",
    "envs/resd_envs/textarena": "the package's own prompts",
    "envs/resd_envs/textworld_express": "the package's own prompts",
    "envs/resd_envs/reasoning_scorer.py": "the process with limits, asked by its parent",
    "envs/resd_envs/reasoning_generators.py": "an option of the command line",
    "baselines/resd_baselines/prompts": "the package's own prompts",
    "baselines/resd_baselines/parse_replies.py": "an answer of a model",
}
"""Where files are opened otherwise, and which."""


MECHANISMS = ("reading", "self._opener")
"""What may be asked to open something."""


def called(node: ast.Call) -> Iterator[str]:
    """What a call may be known as: `json.load`, `*.read_text`, `open`."""
    if isinstance(node.func, ast.Name):
        yield node.func.id
    elif isinstance(node.func, ast.Attribute):
        if isinstance(node.func.value, ast.Name):
            yield f"{node.func.value.id}.{node.func.attr}"
        if ast.unparse(node.func.value) not in MECHANISMS:
            yield f"*.{node.func.attr}"


def calls(path: Path, of: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and of & set(called(node)):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}"


def excused(path: Path) -> bool:
    name = str(path.relative_to(ROOT))
    return any(name == own or name.startswith(f"{own}/") for own in OWN)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["readers", "writers"])
def test_files_go_through_one_place(kind: str) -> None:
    of = READERS if kind == "readers" else WRITERS
    assert [call for path in CODE if not excused(path) for call in calls(path, of)] == []


def test_every_excuse_is_needed() -> None:
    needed = {
        own
        for own in OWN
        for path in CODE
        if (name := str(path.relative_to(ROOT))) == own or name.startswith(f"{own}/")
        if any(calls(path, READERS | WRITERS))
    }
    assert set(OWN) == needed


LOADERS: Mapping[str, str] = {
    "from_pretrained": "trust_remote_code",
    "load_dataset": "trust_remote_code",
    "LLM": "trust_remote_code",
}


@pytest.mark.slow
def test_whatever_loads_a_strangers_model_says_whether_its_code_may_run() -> None:
    """By name, or by `**source`, which `loading` fills in one place."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = list(called(node)) if isinstance(node, ast.Call) else []
            loader = next((n for n in LOADERS if f"*.{n}" in names), None)
            if loader is None or not isinstance(node, ast.Call):
                continue
            told = {keyword.arg for keyword in node.keywords}
            text = ast.unparse(node)
            harmless = ("Peft", "GenerationConfig", "TokenizerFast", "from_config(")
            if not any(word in text for word in harmless):
                assert {LOADERS[loader], None} & told, f"{path}:{node.lineno}: {text}"


def test_no_console_reads_markup() -> None:
    for path in CODE:
        text = path.read_text(encoding="utf-8")
        if path.name != "terminal.py":
            assert " Console(" not in text, path
            assert "from_markup" not in text, path


@pytest.mark.slow
def test_no_child_of_ours_takes_modules_from_the_current_folder() -> None:
    """`python -m` puts the current folder first, which may be untrusted; `-P` forbids it."""
    started = []
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.List):
                continue
            words = [ast.unparse(word) for word in node.elts]
            if "sys.executable" in words and "'-m'" in words:
                started.append(path)
                assert words.index("'-P'") < words.index("'-m'"), f"{path}:{node.lineno}"
    assert len(started) > 6
