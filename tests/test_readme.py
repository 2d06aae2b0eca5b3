"""The two READMEs say the same: commands, links, diagrams; and what they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
KOREAN = (ROOT / "README.ko.md").read_text(encoding="utf-8")


def _blocks(text: str) -> list[str]:
    return [block for block in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "──▶" in block]


def _commands(text: str) -> set[str]:
    """`daas ...` and `make ...` in backticks, arguments left out."""
    return set(re.findall(r"`((?:daas|make|docker compose)(?: [a-z-]+)+)", re.sub(r"\s+", " ", text)))


def test_the_korean_readme_has_the_same_pictures() -> None:
    assert len(_blocks(ENGLISH)) == 2
    assert _blocks(KOREAN) == _blocks(ENGLISH)


def test_the_korean_readme_names_no_command_that_the_english_one_does_not() -> None:
    assert _commands(KOREAN) <= _commands(ENGLISH)
    assert len(_commands(KOREAN)) > 10


def _folders(text: str) -> list[str]:
    return re.findall(r"^\| (`(?:libs|services|infra|tests|docs)[^|]*) \|", text, re.MULTILINE)


def _steps(text: str) -> list[set[str]]:
    """What each numbered step to production says to type."""
    found = text[text.index("](docs/production.md)") :]
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |^\n)", found, re.MULTILINE | re.DOTALL)
    return [set(re.findall(r"`([^`]+)`", step)) for step in steps]


def test_the_korean_readme_has_the_same_folders_and_the_same_steps_to_production() -> None:
    assert len(_folders(ENGLISH)) > 15
    assert _folders(KOREAN) == _folders(ENGLISH)
    english, korean = _steps(ENGLISH[ENGLISH.index("To go to production") :]), _steps(KOREAN)
    assert len(english) == 5
    assert korean[-5:] == english


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
