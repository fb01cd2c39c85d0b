"""The repository keeps its own promises: commands, versions, pins, docstrings, changelog, nothing private in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
REQUIREMENT_FILES = sorted([*ROOT.glob("*/requirements.txt"), *ROOT.glob(".ci/requirements.txt")])

#: Lines a module may have; above, its docstring must say why ("One long module, because ...").
MODULE_LINES = 500
#: Names that say nothing of what is inside.
VAGUE_MODULES = {"utils.py", "helpers.py", "common.py", "misc.py", "tools.py"}


def project(package: Path) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return table


def pins() -> dict[str, Version]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def requirements(file: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


def tracked_text_files() -> list[Path]:
    """Every text file that git knows, or would take (a clone without git history has all files)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    binary = {".gz", ".parquet", ".png", ".svg", ".npz", ".ico"}
    return [ROOT / name for name in names if Path(name).suffix not in binary and (ROOT / name).is_file()]


# commands


def make_targets() -> dict[str, str]:
    pattern = re.compile(r"^([a-z]+):.*## (.+)$", re.MULTILINE)
    return dict(pattern.findall((ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_commands_named_in_the_front_pages_exist(page: str) -> None:
    named = set(re.findall(r"(?:^|`|\s)make ([a-z]+)(?=[`\s]|$)", (ROOT / page).read_text(), re.MULTILINE))
    assert named, f"{page} names no command"
    assert named <= set(make_targets())


def test_make_help_lists_every_target() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines()} == set(make_targets())
    assert set(make_targets()) >= {"demo", "test", "check", "bench", "docs", "clean", "help"}


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_front_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert not missing


# versions and pins


def test_all_packages_share_one_version() -> None:
    assert len({project(package)["version"] for package in PACKAGES}) == 1


def test_siblings_are_pinned_to_that_version() -> None:
    for package in PACKAGES:
        wanted = [Requirement(text) for text in project(package)["dependencies"]]  # type: ignore[attr-defined]
        siblings = {str(r.specifier) for r in wanted if r.name.startswith("skate")}
        assert siblings <= {f"=={project(package)['version']}"}, package.name


def test_the_makefile_installs_every_package() -> None:
    (line,) = re.findall(r"^PACKAGES := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert line.split() == [str(package.relative_to(ROOT)) for package in PACKAGES]


@pytest.mark.parametrize("source", sorted(ROOT.glob("packages/*/src/*/version.py")), ids=lambda path: path.parent.name)
def test_the_version_in_the_source_is_the_distributions(source: Path) -> None:
    (assignment,) = ast.parse(source.read_text()).body[1:]
    assert isinstance(assignment, ast.Assign)
    assert ast.literal_eval(assignment.value) == project(source.parents[2])["version"]


def test_the_allowed_ranges_admit_the_pins() -> None:
    pinned = pins()
    wanted = [Requirement(text) for package in PACKAGES for text in project(package)["dependencies"]]  # type: ignore[attr-defined]
    for package in PACKAGES:
        extras = project(package).get("optional-dependencies", {})
        wanted += [Requirement(text) for texts in extras.values() for text in texts]  # type: ignore[attr-defined]
    outside = [
        f"{requirement} excludes the pin {pinned.get(canonicalize_name(requirement.name))}"
        for requirement in wanted
        if not requirement.name.startswith("skate")
        and (
            canonicalize_name(requirement.name) not in pinned
            or pinned[canonicalize_name(requirement.name)] not in requirement.specifier
        )
    ]
    assert not outside


def test_ranges_have_a_floor() -> None:
    """An honest range names the oldest version it was made for."""
    bare = [
        text
        for package in PACKAGES
        for text in project(package)["dependencies"]  # type: ignore[attr-defined]
        if not any(part.operator in (">=", "==", "~=") for part in Requirement(text).specifier)
    ]
    assert not bare


@pytest.mark.parametrize("file", REQUIREMENT_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_requirement_is_pinned(file: Path) -> None:
    pinned = pins()
    missing = [str(r) for r in requirements(file) if canonicalize_name(r.name) not in pinned]
    outside = [
        str(r) for r in requirements(file) if pinned.get(canonicalize_name(r.name), Version("0")) not in r.specifier
    ]
    assert not missing
    assert not outside


def test_core_has_at_most_five_dependencies() -> None:
    assert len(project(ROOT / "packages/core")["dependencies"]) <= 5  # type: ignore[arg-type]


def test_core_uses_what_it_depends_on() -> None:
    names = {Requirement(text).name for text in project(ROOT / "packages/core")["dependencies"]}  # type: ignore[attr-defined]
    imports = "\n".join(source.read_text() for source in SOURCES if source.relative_to(ROOT).parts[1] == "core")
    assert {name for name in names if not re.search(rf"^\s*(?:import|from) {name}\b", imports, re.MULTILINE)} == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_each_distribution_carries_the_licence(package: Path) -> None:
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert project(package)["license-files"] == ["LICENSE"]


# sources


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT / "packages")))
def test_a_module_says_what_it_is_for(file: Path) -> None:
    text = file.read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring.strip(), "no module docstring"
    assert file.name not in VAGUE_MODULES
    assert len(text.splitlines()) <= MODULE_LINES or re.search(r"[Ll]ong\s+module", docstring), (
        "long, and does not say why"
    )


def test_there_are_no_empty_shells() -> None:
    """A package appears when it has content."""
    for package in PACKAGES:
        modules = list(package.glob("src/**/*.py"))
        assert sum(len(module.read_text().splitlines()) for module in modules) > 100, package.name
        assert list(package.glob("src/*/py.typed")), f"{package.name} does not ship its types"


# what must not be in a public repository

FORBIDDEN = {
    "an absolute path of some machine": re.compile(r"(?<![\w.])/(?:root|home/\w+|Users/\w+|workspace|work)/\w"),
    "a package registry's address": re.compile(r"https?://[\w.-]*(?:pythonhosted|npmjs|debian)\.org/"),
    "a secret": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_\w{30,}"),
}


def test_nothing_private_is_in_the_repository() -> None:
    found = []
    for file in tracked_text_files():
        if file == Path(__file__):  # the patterns themselves
            continue
        text = file.read_text(errors="replace")
        found += [f"{file.relative_to(ROOT)}: {what}" for what, pattern in FORBIDDEN.items() if pattern.search(text)]
    assert not found


def test_no_promise_is_left_open_in_the_sources() -> None:
    mark = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XXX)\b")
    assert not [str(file.relative_to(ROOT)) for file in SOURCES if mark.search(file.read_text())]


# changelog


def test_changelog_fragments_are_of_a_known_type() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    known = {entry["directory"] for entry in settings["type"]}
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if not path.name.startswith(".")]
    assert fragments
    wrong = [path.name for path in fragments if len(path.name.split(".")) < 3 or path.name.split(".")[-2] not in known]
    assert not wrong
    assert not [path.name for path in fragments if not path.read_text().strip()]
    # Others would be taken for numbers of issues and shown as such.
    assert not [path.name for path in fragments if not re.match(r"\+|\d", path.name)]


def test_the_changelog_builds() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.0"]
    draft = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert draft.returncode == 0, draft.stderr
    assert "Added" in draft.stdout
