"""The kit imports jax, flax, optax, orbax-checkpoint, numpy and what they need, no more."""

import subprocess
import sys
import textwrap

BLOCKED = (
    "PIL", "array_record", "beartype", "chex", "importlib_resources", "jaxtyping", "matplotlib",
    "pandas", "qm9pack", "requests", "rich", "safetensors", "tensorflow", "tensorflow_datasets",
    "torch", "tyro",
)  # fmt: skip


def run(*lines):
    """Runs lines where these packages cannot be imported; flax alone may have rich."""
    before = f"""
        import sys
        import flax.nnx, orbax.checkpoint
        class Wall:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {BLOCKED}:
                    raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
        for name in [name for name in sys.modules if name.partition(".")[0] in {BLOCKED}]:
            del sys.modules[name]
        sys.meta_path.insert(0, Wall())
    """
    program = textwrap.dedent(before) + "\n".join(lines)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_the_kit_needs_no_other_packages():
    done = run(
        "import pkgutil, importlib, benchmarks.kit",
        "for module in pkgutil.iter_modules(benchmarks.kit.__path__, 'benchmarks.kit.'):",
        "    importlib.import_module(module.name)",
        "from benchmarks import allocator",
        "from benchmarks.problems.qm9.dataset import QM9",
        "from benchmarks.problems.qm9 import npz_file",
        "QM9.setting('paper', '')",
        "from benchmarks.kit.__main__ import run",
        "from benchmarks.errors import UserError",
        "try: run(['qm9', '--data', 'none.npz', '--out', 'none'])",
        "except UserError as error: print(error)",
    )
    assert done.stdout == "--data: none.npz is not a file; `make kit` writes one\n", done.stderr


def test_the_wall_stands():
    done = run("import benchmarks.compare")
    assert "rich is blocked" in done.stderr
