"""What the documents say is there: files they link to, the table of settings, pictures, and the README's program."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])


def load_script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_make_targets_that_documents_name_exist():
    targets = re.findall(r"^([a-z][\w -]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    rules = {name for line in targets for name in line.split()}
    text = "\n".join(page.read_text() for page in PAGES)
    named = {
        name
        for line in re.findall(r"^    make ([a-z][\w -]*?)(?:  |&|$)", text, flags=re.MULTILINE)
        for name in line.split()
    }
    named |= set(re.findall(r"`make ([a-z][\w-]*)`", text))
    assert {"demo", "test", "test-full", "jvm-matrix"} <= named
    assert named <= rules


def test_settings_table_is_the_registry():
    settings = load_script("make_settings")
    page = settings.PAGE.read_text()
    assert settings.with_table(page) == page


def test_pictures_can_be_drawn_and_are_there(tmp_path):
    pictures = load_script("make_pictures")
    drawn = pictures.draw_all(tmp_path)
    assert {file.name for file in drawn} == {file.name for file in (ROOT / "docs" / "pictures").glob("*.svg")}
    for file in drawn:
        words = set(re.findall(r"<text[^>]*>([^<]+)</text>", file.read_text()))
        committed = set(re.findall(r"<text[^>]*>([^<]+)</text>", (ROOT / "docs" / "pictures" / file.name).read_text()))
        assert words == committed, f"{file.name} is out of date: make docs"


def test_the_program_in_the_readme_runs(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    # A process and a Ray cluster of its own, as a reader has; with two CPUs, whatever this machine has.
    with tempfile.TemporaryDirectory(prefix="rdp_", dir="/tmp") as folder:
        start = f"import ray\nray.init('local', num_cpus=2, include_dashboard=False, _temp_dir={folder!r})\n"
        done = subprocess.run(
            [sys.executable, "-c", start + program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=400,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.search(r"accuracy: ([\d.]+)", done.stdout).group(1))
    assert accuracy > 0.9
    assert "|target|prediction|" in done.stdout
    assert (tmp_path / "first-model" / "metadata.json").is_file()
