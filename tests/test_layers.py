# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, down the layers, and never in a circle."""

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("wavlm_lightning", "downstream", "recipes")

# The first prefix that fits gives the layer; imports come from the same layer or a lower one.
LAYERS = [
    ("wavlm_lightning.downstream.upstreams", 4),
    ("wavlm_lightning.downstream.features", 4),
    ("wavlm_lightning.downstream.heads", 5),
    ("wavlm_lightning.downstream.metrics", 5),
    ("wavlm_lightning.downstream.corpora", 5),
    ("wavlm_lightning.downstream.losses", 5),
    ("wavlm_lightning.downstream.text", 5),
    ("wavlm_lightning.downstream.config", 6),
    ("wavlm_lightning.downstream.tasks", 8),
    ("wavlm_lightning.downstream.task", 6),
    ("wavlm_lightning.downstream.trained_task", 6),
    ("wavlm_lightning.downstream.predictor", 9),
    ("wavlm_lightning.downstream.", 7),
    ("wavlm_lightning.downstream", 9),
    ("wavlm_lightning.recipes", 10),
    ("wavlm_lightning.model", 1),
    ("wavlm_lightning.pretrain", 2),
    ("wavlm_lightning.", 0),
    ("wavlm_lightning", 3),
]
# The rooms of recipes, and whose doors are open to each; run/ knows nothing of what it runs.
ROOMS = {
    "run": set[str](),
    "mini": set[str](),
    "pretrain": {"run", "mini"},
    "superb": {"run", "mini"},
    "finetune": {"run", "superb"},
    "sweep": {"run", "pretrain", "superb"},
    "report": {"run", "superb"},
    "export": {"run", "report"},
    "config": {"run", "pretrain", "superb", "finetune"},
    "predict": {"run"},
    "slim": set[str](),
    "cli": set[str](),
    "corpus": {"run"},
    "features": {"run", "superb"},
}


def layer(module: str) -> int:
    return next(number for prefix, number in LAYERS if module.startswith(prefix))


def source(module: str) -> str:
    path = ROOT / Path(*module.split("."))
    file = path.with_suffix(".py")
    return (file if file.is_file() else path / "__init__.py").read_text()


def name_of(file: Path) -> str:
    """What a module is imported as: folders at the top of a checkout are within the package."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(["wavlm_lightning", *parts[parts[0] == "wavlm_lightning" :]]).removesuffix(
        ".__init__"
    )


def is_later(node: ast.AST) -> bool:
    """Whether what stands below it is not run when the module is imported."""
    checks = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return checks or isinstance(node, ast.FunctionDef)


@lru_cache
def modules() -> dict[str, set[str]]:
    """Each module of ours, and those of ours that it imports when it is itself imported."""
    files = [f for p in PACKAGES for f in sorted((ROOT / p).rglob("*.py"))]
    names = {name_of(f): f for f in files}
    found = {}
    for name, file in names.items():
        tree = ast.parse(file.read_text())
        inner = {n for f in ast.walk(tree) if is_later(f) for n in ast.walk(f)}
        wanted = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node not in inner:
                for alias in node.names:  # a name of a package may be a module of its own
                    full = f"{node.module}.{alias.name}"
                    wanted.add(full if full in names else node.module)
            elif isinstance(node, ast.Import) and node not in inner:
                wanted |= {a.name for a in node.names}
        found[name] = {w for w in wanted if w in names and w != name}
    return found


def test_modules_import_only_from_their_layer_and_below() -> None:
    wrong = [
        f"{module} ({layer(module)}) imports {other} ({layer(other)})"
        for module, others in modules().items()
        for other in others
        if layer(other) > layer(module)
    ]
    assert wrong == []


def test_no_module_is_in_an_import_cycle() -> None:
    graph = dict(modules())
    while leaves := [m for m, others in graph.items() if not others & set(graph)]:
        for leaf in leaves:
            del graph[leaf]
    assert graph == {}


def test_downstream_does_not_import_pretraining() -> None:
    wrong = [
        m
        for m, o in modules().items()
        if m.startswith("wavlm_lightning.downstream") and any("pretrain" in x for x in o)
    ]
    assert wrong == []


def test_pretraining_loads_nothing_of_downstream() -> None:
    graph, found = (
        modules(),
        {m for m in modules() if m.startswith("wavlm_lightning.recipes.pretrain")},
    )
    assert len(found) > 5
    while new := {o for m in found for o in graph[m]} - found:
        found |= new
    assert [m for m in sorted(found) if m.startswith("wavlm_lightning.downstream")] == []


def room(module: str) -> str:
    """Of recipes: the folder, or the file, that holds a module."""
    return [*module.split("."), "", ""][2]


def test_rooms_of_recipes_import_only_where_a_door_is_open() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in modules().items()
        for other in others
        if room(module) and room(other) and module.startswith("wavlm_lightning.recipes.")
        if other.startswith("wavlm_lightning.recipes.") and room(other) != room(module)
        if room(other) not in ROOMS[room(module)]
    ]
    assert wrong == []
    assert {room(m) for m in modules() if m.startswith("wavlm_lightning.recipes.")} == set(ROOMS)


def test_nothing_imports_a_command_line() -> None:
    """A file that ends in a call of its own `main`."""
    programs = {
        module
        for module in modules()
        if '__name__ == "__main__"' in source(module)
        and module.startswith("wavlm_lightning.recipes.")
    }
    assert len(programs) > 10
    assert [m for m, others in modules().items() if programs & others] == []


SHAPE = re.compile(r"\((\w+'?,[^()]*|\.\.\.[^()]*|)\)")  # (B, T), (B,), (C', C), (...) or ()


def test_every_forward_says_its_shapes() -> None:
    """A docstring with a shape such as (B, T), (B,) or (out, in)."""
    bare = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef) and node.name == "forward":
                    words = ast.get_docstring(node) or ""
                    static = any(
                        isinstance(d, ast.Name) and d.id == "staticmethod"
                        for d in node.decorator_list
                    )
                    if not static and not SHAPE.search(words):
                        bare.append(f"{file.name}:{node.lineno}")
    assert bare == []


def _public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Functions of a module and methods of its classes; none that is within another function."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    found = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    return [node for node in found if not node.name.startswith("_")]


def _takes_or_gives_tensors(node: ast.FunctionDef) -> bool:
    arguments = [*node.args.args, *node.args.kwonlyargs]
    if arguments and arguments[0].arg == "ctx":  # of an autograd.Function, which is called by apply
        return False
    types = [ast.unparse(a.annotation) for a in arguments if a.annotation]
    types += [ast.unparse(node.returns)] if node.returns else []
    return any(re.search(r"\bTensor\b", text) and "[str, Tensor]" not in text for text in types)


def test_public_functions_on_tensors_say_shapes() -> None:
    """(B, T), (...) or () for a number, in the docstring."""
    bare, seen = [], 0
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in _public_functions(ast.parse(file.read_text())):
                if _takes_or_gives_tensors(node):
                    seen += 1
                    if not SHAPE.search(ast.get_docstring(node) or ""):
                        bare.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert seen > 100
    assert bare == []


MANY = 3  # arguments, from which on one line cannot say them all


def test_public_functions_on_tensors_with_many_arguments_describe_each() -> None:
    """In a section `Args:`, as Google's style has it."""
    bare = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in _public_functions(ast.parse(file.read_text())):
                arguments = [a for a in (*node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
                types = [ast.unparse(a.annotation) for a in arguments if a.annotation]
                tensors = any(re.search(r"\bTensor\b", t) and "[str," not in t for t in types)
                if tensors and len(arguments) >= MANY and arguments[0].arg != "ctx":
                    if "Args:" not in (ast.get_docstring(node) or ""):
                        bare.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert bare == []


FRAGMENT = re.compile(r"(Of|As|By|To|With|On|In|At|From|For|Under|And) ")


def test_docstrings_begin_with_a_phrase_that_stands_alone() -> None:
    wrong = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    words = ast.get_docstring(node) or ""
                    if FRAGMENT.match(words):
                        wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} {words[:40]}")
    assert wrong == []


def test_every_module_is_imported_by_one_name() -> None:
    """Not as `downstream.x` as well, which a checkout also finds: its classes would be two."""
    wrong = []
    for folder in (*PACKAGES, "tests", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
                if any(name.split(".")[0] in ("downstream", "recipes") for name in names):
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []
