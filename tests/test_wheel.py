"""What is uploaded, and that it works where the checkout is not.

The wheel is built from the unpacked sdist, as installers without a wheel do.
"""

import email
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from readme_renderer import markdown

from tests.test_packaging import EXTRAS, PROJECT, ROOT, normal

NAME = f"{PROJECT['name']}-{PROJECT['version']}"
BESIDE = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "README.md", "hatch_build.py"}
MADE = {".gitignore", "PKG-INFO", "pyproject.toml", "wfm"}
SIZE = 1_000_000  # bytes
# The example as tests/test_docs.py runs it takes a minute; here it is about what is installed.
SHORTER = {"steps=100": "steps=2", "rngs=": "width=4, depth=1, rngs=", "0), 32)": "0), 4)"}

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is built from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "hatchling", "build", "-d", folder, "-t")
    run(*build, "sdist", cwd=ROOT)
    sdist = folder / f"{NAME}.tar.gz"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    run(*build, "wheel", cwd=folder / NAME)
    return sdist, folder / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def metadata(built):
    with zipfile.ZipFile(built[1]) as wheel:
        return email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))


def test_the_sdist_holds_what_the_wheel_is_built_from(built):
    with tarfile.open(built[0]) as archive:
        names = {Path(name).parts[1] for name in archive.getnames()}
    assert BESIDE <= names <= BESIDE | MADE


def test_the_wheel_holds_the_library_alone(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = [name for name in wheel.namelist() if not name.startswith(f"{NAME}.dist-info/")]
        assert f"{NAME}.dist-info/licenses/LICENSE" in wheel.namelist()
    source = (p.relative_to(ROOT).as_posix() for p in (ROOT / "wfm").rglob("*") if p.is_file())
    assert set(names) == {name for name in source if "__pycache__" not in name}
    assert {"wfm/py.typed", "wfm/__init__.pyi"} <= set(names)
    assert max(file.stat().st_size for file in built) < SIZE


def test_the_metadata_are_those_of_the_project(metadata):
    for key in ("name", "version", "requires-python"):
        assert metadata[key] == PROJECT[key]
    assert metadata["License-Expression"] == PROJECT["license"]
    assert metadata.get_all("License-File") == PROJECT["license-files"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)


def test_the_wheel_requires_what_the_project_does(metadata):
    def parts(requirement: str) -> tuple[str, frozenset[str]]:
        """Name and bounds, which tools order as they like."""
        name = re.split(r"[<>=!~; ]", requirement)[0]
        return normal(name), frozenset(requirement[len(name) :].split(","))

    required = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert set(map(parts, required)) == set(map(parts, PROJECT["dependencies"]))


def test_a_package_index_can_show_the_readme(metadata):
    page = markdown.render(metadata.get_payload())
    assert page
    for shown in ("<h1", "<table>", "<pre", "<em>Novelty</em>"):
        assert shown in page
    assert "![" not in page and "|---" not in page  # Markdown that was not understood
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert links and all(link.startswith(("https://", "#")) for link in links)


@pytest.fixture(scope="module")
def python(built, tmp_path_factory):
    """A Python that has the wheel, what it requires, and no way to the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Files *.pth in these folders, such as that of an editable install, are not read from here.
    found = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "requirements.pth").write_text("\n".join(found))
    python = folder / "bin" / "python"
    offline = ("--no-index", "--no-deps", "--ignore-installed", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *offline, built[1], cwd=folder)
    return python


def test_the_example_of_the_readme_runs_from_the_wheel(python, tmp_path):
    readme = (ROOT / "README.md").read_text()
    example, of_flax = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    for long, short in SHORTER.items():
        assert example.count(long) == 1
        example = example.replace(long, short)
    told = "import wfm; print(wfm.__version__, wfm.__file__)"
    version, place = run(python, "-I", "-c", told, cwd=tmp_path).split()
    assert version == PROJECT["version"]
    assert Path(place).is_relative_to(python.parent.parent) and ROOT not in Path(place).parents
    assert float(run(python, "-I", "-c", example, cwd=tmp_path)) > 0
    said = run(python, "-I", "-c", f"import jax, wfm\n{of_flax}", cwd=tmp_path)
    assert "8 neurons: in any order, times any positive number" in said


def test_the_wheel_alone_has_neither_experiments_nor_tests(python, tmp_path):
    names = ("experiments", "configs", "tests")
    told = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert run(python, "-I", "-c", told, cwd=tmp_path) == "[]\n"
