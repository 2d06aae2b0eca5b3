"""What the pages tell people to type is there: commands with their options, make targets, scripts, settings."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from daas.cli.main import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.ko.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "infra").glob("*/README.md")),
]
#: A word of the page in the place of an argument ends the path of a command: `daas verify pod NAMESPACE NAME`.
_SUBCOMMAND = re.compile(r"[a-z][a-z0-9-]*")
_SETTING = re.compile(r"\bDAAS_[A-Z0-9_]+[A-Z0-9]\b(?![_*<])")


def lines(page: Path) -> list[str]:
    """Code spans and the lines of code blocks, comments left out."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    code = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*code, *(re.sub(r"\s+", " ", span) for span in spans)]


def typed(page: Path, program: str) -> list[list[str]]:
    """The words after a program's name, wherever a page says to run it; alternatives (`a|b`) one by one."""
    found = []
    for line in lines(page):
        for called in re.findall(rf"(?:^|[;&|(]|\$ |run --rm |\s){program} ([^#;&()]*)", line):
            words = shlex.split(called.replace("'", " ").replace('"', " "))
            choices = next((word.split("|") for word in words if "|" in word.strip("|")), None)
            found += [[choice if "|" in word.strip("|") else word for word in words] for choice in choices or [""]]
    return found


@cache
def load(name: str) -> Any:
    return SUBCOMMANDS[name].load(name)


def wrong_with(words: list[str]) -> str | None:
    """What `daas` would not understand of a line."""
    if not words or not _SUBCOMMAND.fullmatch(words[0]):
        return None
    if words[0] not in SUBCOMMANDS:
        return f"no command {words[0]!r}"
    command, rest = load(words[0]), words[1:]
    while getattr(command, "commands", None) and rest and _SUBCOMMAND.fullmatch(rest[0]):
        if rest[0] not in command.commands:
            return f"no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.strip("[].,").partition("=")[0] for word in rest if re.match(r"\[?--?[a-z]", word)}
    unknown = sorted(options - known - {"--help"})
    return f"no option {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_is_one_that_daas_has(page: Path) -> None:
    wrong = {" ".join(words): said for words in typed(page, "daas") if (said := wrong_with(words)) is not None}
    assert not wrong


def test_a_command_or_an_option_that_is_none_is_found() -> None:
    assert wrong_with(["verify", "everything"]) == "no command 'everything'"
    assert wrong_with(["verify", "pod", "NAMESPACE", "NAME", "--loudly"]) == "no option ['--loudly']"
    assert wrong_with(["verify", "pod", "NAMESPACE", "NAME", "-o", "json"]) is None
    assert len([words for page in PAGES for words in typed(page, "daas")]) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_and_script_on_a_page_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {words[0] for words in typed(page, "make") if words and _SUBCOMMAND.fullmatch(words[0])}
    assert asked <= targets
    scripts = {
        path for line in lines(page) for path in re.findall(r"\b((?:infra|tests|libs|services)/[\w./-]+\.\w+)", line)
    }
    assert not {path for path in scripts if not (ROOT / path).exists()}


@cache
def sources() -> str:
    """Everything that reads a setting, in lower case."""
    files = [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py"), *ROOT.glob("infra/**/*.py")]
    files += [*ROOT.glob("tests/**/*.py"), *ROOT.glob("libs/*/tests/**/*.py"), ROOT / "docker-compose.yml"]
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path != Path(__file__)).lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_on_a_page_is_one_that_something_reads(page: Path) -> None:
    named = set(_SETTING.findall(page.read_text(encoding="utf-8")))
    unread = {
        name
        for name in named
        if not re.search(rf"\b(?:{name.lower()}|{name.lower().removeprefix('daas_')})\b", sources())
    }
    assert not unread
