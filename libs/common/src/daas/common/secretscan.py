"""What may not become public: finds private keys, tokens and passwords in objects, and tells where, never what.

The rules are few and named. Forms that only a key has (PEM headers, prefixes that issuers reserve for their tokens) are
found anywhere, in base64 too; values without a form of their own only under a name that tells what they are.
"""

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from daas.common.errors import Refused

#: A ConfigMap has at most 1 MiB; deeper or longer than this is not looked through and therefore not public.
TEXT_CHARS_MAX: Final = 2 * 1024 * 1024
DEPTH_MAX: Final = 32

#: Rule to form. Each prefix is one that its issuer documents as reserved, so that scanners can find it.
FORMS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("private-key", re.compile(r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d")),
    ("private-key", re.compile(r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b|\bsuiprivkey1[02-9ac-hj-np-z]{40,}")),
    ("private-key", re.compile(r"\bS[ACNOUX][A-Z2-7]{56}\b")),  # NKey seeds
    ("jwt", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}")),
    ("aws-key", re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b")),
    ("github-token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b")),
    ("gitlab-token", re.compile(r"\bgl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat)-[A-Za-z0-9_-]{20,}")),
    ("slack-token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]{16,}")),
    ("slack-token", re.compile(r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}")),
    ("google-key", re.compile(r"\bAIza[0-9A-Za-z_-]{35}|\bya29\.[0-9A-Za-z_-]{20,}|\bGOCSPX-[0-9A-Za-z_-]{28}")),
    ("stripe-key", re.compile(r"\b(?:sk|rk)_(?:live|test)_[0-9a-zA-Z]{16,}|\bwhsec_[0-9a-zA-Z+/]{24,}")),
    ("api-key", re.compile(r"\bsk-(?:[a-z0-9]+-){0,3}[A-Za-z0-9_-]{32,}")),
    ("registry-token", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b|\bpypi-AgE[A-Za-z0-9_-]{50,}|\bdckr_[po]at_[\w-]{27,}")),
    ("registry-token", re.compile(r"\brubygems_[0-9a-f]{48}\b|\bcio[A-Za-z0-9]{32}\b")),
    ("mail-key", re.compile(r"\bSG\.[\w-]{22}\.[\w-]{43}|\bkey-[0-9a-f]{32}\b|\bxkeysib-[0-9a-f]{64}")),
    ("telephony-key", re.compile(r"\bSK[0-9a-f]{32}\b")),
    ("cloud-token", re.compile(r"\bdo[opr]_v1_[0-9a-f]{64}\b|\bhv[sbr]\.[\w-]{24,}|\bs\.[A-Za-z0-9]{24}\b")),
    ("cloud-token", re.compile(r"\b(?:AccountKey|SharedAccessKey|sig)=[A-Za-z0-9+/%]{40,}={0,2}")),
    ("cloud-token", re.compile(r"\bdapi[0-9a-f]{32}\b|\bglsa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b|\bATATT3x[\w=-]{60,}")),
    ("bot-token", re.compile(r"\b\d{8,10}:AA[\w-]{33}\b|\b[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}\b")),
    ("join-token", re.compile(r"\bK10[0-9a-f]{64}::[a-z-]+:\S{8,}")),
    ("password-hash", re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}|\$(?:5|6|y)\$[^\s$]*\$?[./A-Za-z0-9]{20,}")),
    ("password-hash", re.compile(r"\$argon2(?:i|d|id)\$[^\s]{20,}|:\{SHA\}[A-Za-z0-9+/]{27}=|\$apr1\$[^\s]{20,}")),
    ("secret-manifest", re.compile(r"""["']?kind["']?\s*:\s*["']?(?:Secret|SecretList)\b(?![A-Za-z])""")),
)
_URL_PASSWORD: Final = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{0,128}:([^\s/@'\"]{3,256})@[^\s/@]")
#: Names under which a value is what they say. The first group's values are taken at their word, however plain.
_PASSWORD: Final = re.compile(r"(?:pass(?:word|wd|phrase|code)?|pwd|pgpass)$")
_TELLING: Final = re.compile(
    r"(?:secret|token|api-?key|private-?key|secret-?key|access-?key|signing-?key|encryption-?key|master-?key|hmac-?key"
    r"|session-?key|shared-?key|account-?key|license-?key|credentials?|auth|authorization|bearer|cookie|salt|seed|mnemonic"
    r"|webhook-?key)(?:-?(?:base|value|data|base64|key|hash|string|\d+))?$"
)
#: Names of what is derived from a secret and may be shown.
_DERIVED: Final = re.compile(r"check-?sum|digest|fingerprint|public|sha-?(?:1|256|512)")
_ASSIGNMENT: Final = re.compile(
    r"""(?:^|[\s,{;&?(-])["']?([A-Za-z][A-Za-z0-9_.-]{1,63})["']?[ \t]{0,8}(?::[ \t]|=|:(?=["']))[ \t]{0,8}"""
    r"""("(?:[^"\\\n]|\\.){1,4096}"|'[^'\n]{1,4096}'|[^\s"',;#}{&]{1,4096})""",
    re.MULTILINE,
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_PLACEHOLDER: Final = re.compile(
    r"""^(?:|[x*.•-]+|.*(?:\$\{|\$\(|\{\{|<[^>]*>|%\(|%[A-Z_]+%|\$[A-Za-z_]).*|(?:change|replace)[-_ ]?(?:me|this|it)"""
    r"""|null|nil|none|true|false|yes|no|on|off|redacted|hidden|todo|tbd|n/a|unset|empty|default|required|optional"""
    r"""|enabled|disabled|example|your[-_ ].*|file:.*|env:.*|vault:.*|ref\+.*|arn:.*|bearer|basic|hmac|oidc|jwt"""
    r"""|secret|password|token|str|string|bytes|prompt|ask|<.*)$""",
    re.IGNORECASE,
)
_WORDS: Final = re.compile(r"[A-Za-z]{1,24}(?:[ ._/:-][A-Za-z]{1,24})*[0-9]{0,3}")
_PLACE: Final = re.compile(r"(?:[./~]|[A-Za-z]:\\|[a-z][a-z0-9+.-]*://)\S*")
#: Random text of 16 characters has about 3.5 bits of entropy for each as a sample; words of that length have 3 or less.
_ENTROPY_BITS_MIN: Final = 3.0
_RANDOM_CHARS_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: by which rule, and where (a JSON path). No digest: that of a weak password gives it away."""

    rule: str
    where: str


class SecretFound(Refused):
    """What was to become public holds a secret. Carries the finding; the original may not be kept anywhere."""

    redacted = True

    def __init__(self, finding: Finding) -> None:
        super().__init__(
            f"{finding.where} holds what looks like a secret ({finding.rule})",
            reason=f"secret-{finding.rule}"[:253],
            field=finding.where,
        )
        self.finding = finding


def scan(value: Any, where: str = "$") -> Finding | None:
    """The first finding in a JSON-like value, names included; None where it may be public.

    Args:
        value: dicts, lists, strings, bytes and numbers.
        where: path of the value itself.
    """
    return _scan(value, where, "", 0)


def require_public(value: Any, where: str = "$") -> None:
    """Lets pass what may be public.

    Raises:
        SecretFound: where and by which rule; never what.
    """
    finding = scan(value, where)
    if finding is not None:
        raise SecretFound(finding)


def _scan(value: Any, where: str, name: str, depth: int) -> Finding | None:
    if depth > DEPTH_MAX:
        return Finding("too-deep", where)
    if isinstance(value, dict):
        if value.get("kind") in ("Secret", "SecretList"):
            return Finding("secret-object", where)
        for key, item in value.items():
            found = _scan_text(str(key), f"{where} (a name)", "") or _scan(item, f"{where}.{key}", str(key), depth + 1)
            if found is not None:
                return found
        # `{name: DB_PASSWORD, value: ...}`: environment variables, headers, parameters.
        if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
            return _under_name(value["name"], value["value"], f"{where}.value")
        return None
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            found = _scan(item, f"{where}[{index}]", name, depth + 1)
            if found is not None:
                return found
        return None
    if isinstance(value, bytes):
        return _scan_text(value.decode("utf-8", errors="replace"), where, name)
    return _scan_text(value, where, name) if isinstance(value, str) else None


def _scan_text(text: str, where: str, name: str) -> Finding | None:
    if len(text) > TEXT_CHARS_MAX:
        return Finding("too-long", where)
    for plain in (text, *_decoded(text)):
        for rule, form in FORMS:
            match = form.search(plain)
            if match is not None:
                return Finding(rule, where)
        for match in _URL_PASSWORD.finditer(plain):
            if not _PLACEHOLDER.match(match.group(1)):
                return Finding("url-password", where)
        for inner, value in _assignments(plain):
            found = _under_name(inner, value, f"{where} ({inner})")
            if found is not None:
                return found
    return _under_name(name, text, where) if name else None


def _decoded(text: str) -> Iterator[str]:
    """Base64 in it that is text again."""
    for match in _BASE64.finditer(text):
        token = match.group().rstrip("=").translate(str.maketrans("-_", "+/"))
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
            plain = data.decode("utf-8")
        except (binascii.Error, ValueError):
            continue
        if plain.isprintable() or "\n" in plain:
            yield plain


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for match in _ASSIGNMENT.finditer(text):
        yield match.group(1), match.group(2)


def _under_name(name: str, value: str, where: str) -> Finding | None:
    told = _plain_name(name)
    text = value.strip().strip("\"'").strip()
    if "\n" in text or _PLACEHOLDER.match(text) or _PLACE.fullmatch(text) or (text.isdecimal() and len(text) < 6):
        return None
    if _PASSWORD.search(told):
        return Finding("password", where) if len(text) >= 3 else None
    if _TELLING.search(told) and not _DERIVED.search(told) and random_looking(text):
        return Finding("named-secret", where)
    return None


def _plain_name(name: str) -> str:
    """`DB_PASSWORD`, `dbPassword` and `db.password` are one name."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return re.sub(r"[_.\s/]+", "-", spaced).lower()


def random_looking(text: str) -> bool:
    """Whether a text is more like drawn characters than like words, a place or a number."""
    for scheme in ("bearer ", "basic ", "token "):
        text = text[len(scheme) :] if text.lower().startswith(scheme) else text
    if len(text) < _RANDOM_CHARS_MIN or " " in text or _WORDS.fullmatch(text):
        return False
    counts = Counter(text)
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    return entropy >= _ENTROPY_BITS_MIN
