"""Imports point down: every module of the package uses only the layers below it.

The table is the structure described in docs/development.md; a new module needs a line here.
"""

import ast
import sys
from importlib.util import resolve_name
from pathlib import Path

import pytest

import skmixed

ROOT = Path(skmixed.__file__).parent

# The longest matching prefix counts: (layer, packages it may import besides the standard library).
LAYERS = {
    "skmixed.exceptions": (0, set()),
    "skmixed._version": (0, set()),
    "skmixed._warn": (0, set()),
    "skmixed._log": (0, set()),
    "skmixed._deadline": (0, set()),
    "skmixed.datasets": (0, {"pandas", "sklearn"}),  # a leaf: Bunch is all it takes from sklearn
    "skmixed.linalg": (1, {"numpy", "scipy", "threadpoolctl"}),
    "skmixed.families": (1, {"numpy", "scipy"}),
    "skmixed.curves": (1, {"numpy"}),
    "skmixed.design": (2, {"numpy", "formulaic", "interface_meta"}),
    "skmixed.design.batches": (2, {"numpy", "pandas"}),
    "skmixed.design.batch_reader": (2, {"numpy", "pandas"}),
    "skmixed.design.scan": (2, {"numpy", "pandas"}),
    "skmixed.design.reference": (2, {"numpy", "pandas"}),
    "skmixed.design.curve_formula": (2, {"numpy", "scipy"}),
    "skmixed.design.columns": (2, {"numpy", "pandas", "narwhals"}),  # reads the user's table
    "skmixed.design.levels": (2, {"numpy", "pandas"}),
    "skmixed.design.relationship": (2, {"numpy", "pandas"}),
    "skmixed.design.residual": (2, {"numpy", "pandas"}),
    "skmixed.design.spec": (2, {"numpy", "pandas"}),
    "skmixed.design.grouping": (2, {"numpy", "pandas"}),
    "skmixed.models": (3, {"numpy", "scipy", "threadpoolctl"}),
    "skmixed.inference": (4, {"numpy", "scipy", "pandas"}),
    "skmixed.inference.replicates": (4, {"numpy", "joblib"}),
    "skmixed.inference.adjust": (4, {"numpy", "scipy", "statsmodels"}),
    "skmixed.inference.simulated": (4, {"numpy", "scipy", "pandas", "statsmodels"}),
    "skmixed.inference.gee": (4, {"numpy", "pandas", "statsmodels"}),
    "skmixed.diagnostics": (4, {"numpy", "scipy", "pandas"}),
    "skmixed.estimators": (5, {"numpy", "scipy", "pandas", "sklearn"}),
    "skmixed.model_selection": (6, {"numpy", "pandas", "sklearn"}),
    "skmixed.onnx": (6, {"numpy", "pandas", "sklearn"}),
    "skmixed.plotting": (6, {"numpy", "scipy", "pandas"}),
    "skmixed.plotting._check_panels": (6, {"numpy", "scipy", "pandas", "statsmodels"}),
}
# Modules of linalg that know how the penalised system is stored: others import linalg.system.
CLOSED = {
    f"skmixed.linalg.{name}"
    for name in (
        "cholesky core crossproducts effects iterative_blocks iterative_cg iterative_core "
        "iterative_leverages iterative_logdet iterative_precondition iterative_traces "
        "iterative_variances leverages marginal pattern row_norms selected sums traces"
    ).split()
}
# How the penalised system is eliminated and stored: names that no other package may say.
PRIVATE = set(
    "_blocked _plan _products border border_slice cells chain core core_groups entries from_parts "
    "is_sparse n_chain n_tail order pairs parents plan positions products q_core starts to_parent "
    "to_parts up".split()
)
# Imported where they are used, so that the package works without them.
OPTIONAL = set(
    "adjustText arviz_base dask great_tables matplotlib onnx polars pyarrow skl2onnx tqdm".split()
)


def _module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def _layer(module):
    if module == "skmixed":
        return 7, set()
    prefixes = [p for p in LAYERS if module == p or module.startswith(p + ".")]
    assert prefixes, f"{module} has no line in the table of layers"
    return LAYERS[max(prefixes, key=len)]


def _imports(module, tree):
    """Yield (imported module, line); a sub-module imported by name counts as that module."""
    package = module if MODULES[module].stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield (name if name in MODULES else source), node.lineno


def _all_imports(module):
    return _imports(module, _parse(module))


def _functions(tree):
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def _parse(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def _words(tree):
    """Names of attributes that are read, and of imported things."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.name, node.lineno) for alias in node.names)


def _package(module):
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("module", MODULES)
def test_own_imports_go_to_a_lower_layer_or_stay_in_the_package(module):
    layer, _ = _layer(module)
    for target, line in _all_imports(module):
        if target.split(".")[0] == "skmixed" and _package(target) != _package(module):
            assert _layer(target)[0] < layer, f"{module}:{line} imports {target}"


@pytest.mark.parametrize("module", MODULES)
def test_other_packages_are_those_of_the_layer(module):
    _, allowed = _layer(module)
    for target, line in _all_imports(module):
        package = target.split(".")[0]
        if package != "skmixed" and package not in sys.stdlib_module_names:
            assert package in allowed | OPTIONAL, f"{module}:{line} imports {target}"


@pytest.mark.parametrize("module", MODULES)
def test_only_optional_packages_are_imported_inside_a_function_and_only_there(module):
    tree = _parse(module)
    inside = {pair for function in _functions(tree) for pair in _imports(module, function)}
    for pair in _imports(module, tree):
        optional = pair[0].split(".")[0] in OPTIONAL
        assert optional == (pair in inside), f"{module}:{pair[1]} imports {pair[0]}"


@pytest.mark.parametrize("module", [m for m in MODULES if _layer(m)[0] >= 3])
def test_storage_of_the_system_is_known_to_linalg_alone(module):
    for target, line in _all_imports(module):
        assert target not in CLOSED, f"{module}:{line} imports {target}"
    for word, line in _words(_parse(module)):
        assert word not in PRIVATE, f"{module}:{line} names {word}"


def test_the_private_names_are_those_in_use():
    inside = [m for m in MODULES if _package(m) == "skmixed.linalg"]
    assert PRIVATE <= {word for m in inside for word, _ in _words(_parse(m))}
    assert CLOSED <= set(inside)


@pytest.mark.parametrize("module", [m for m, path in MODULES.items() if path.stem == "__init__"])
def test_package_files_only_re_export(module):
    for node in _parse(module).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        dunder = isinstance(node, ast.Assign) and node.targets[0].id in {"__all__", "__version__"}
        assert docstring or dunder or isinstance(node, ast.Import | ast.ImportFrom)


def test_no_cycles():
    todo = {m: {t for t, _ in _all_imports(m) if t in MODULES} - {m} for m in MODULES}
    while todo:
        free = [m for m, targets in todo.items() if not targets & todo.keys()]
        assert free, f"import cycle among {sorted(todo)}"
        for module in free:
            del todo[module]
