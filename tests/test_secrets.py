"""No key and no password gets into an index, whichever way it came; and clean code stays as it is."""

import contextlib
import json
import os
import random
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.asking import AskOptions
from hub.cli import main
from hub.config import Settings
from hub.fullload.tree import tree_of
from hub.health import left_out
from hub.indexing import index_tree
from hub.model import Tier
from hub.service import Service
from indexer import history
from indexer.files import FileRules, scan
from indexer.index import DataFolder, Index
from indexer.model import IndexReport
from indexer.pipeline import ignore_progress, never
from indexer.secrets import BEGINS, Redaction, is_secret_file, redact
from indexer.static_embedding import StaticEmbedder
from tests.support.library import ScriptedBackend, spoken
from tests.support.trees import write_tree

ROOT = Path(__file__).parent.parent
_LETTERS = string.ascii_letters + string.digits
_BASE64 = _LETTERS + "+/"
_HEX = "0123456789abcdef"
_CLOSED = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


def drawn(letters: str, length: int, seed: str) -> str:
    """Letters without order, the same for each run; never a secret of anyone's, and in no file as they stand."""
    chance = random.Random(seed)
    text = [chance.choice(letters) for _ in range(length)]
    for at in range(2, length, 4):  # as many digits as chance alone may not give
        text[at] = chance.choice("234567")
    return "".join(text)


def pem(kind: str, seed: str, lines: int = 4) -> str:
    body = [drawn(_BASE64, 64, f"{seed}{number}") for number in range(lines)]
    mark = kind + "PRIVATE " + "KEY" + (" BLOCK" if kind == "PGP " else "") + "-----"
    return "\n".join(["-----BEGIN " + mark, *body, drawn(_LETTERS, 14, seed) + "==", "-----END " + mark])


def seeds() -> dict[str, tuple[str, str, str]]:
    """Name of the case -> (rule, text in front of the secret, secret)."""

    def w(length: int, letters: str = _LETTERS) -> str:
        return drawn(letters, length, f"{len(cases)}")

    cases: dict[str, tuple[str, str, str]] = {}
    forms: list[tuple[str, str, str, Callable[[], str]]] = [
        ("aws id", "aws-access-key", "", lambda: "AK" + "IA" + w(16, string.ascii_uppercase)),
        ("aws temporary id", "aws-access-key", "", lambda: "AS" + "IA" + "Q3EGRIHJ" + "K2LMNO4P"),
        ("aws secret", "aws-secret-key", "aws_secret_access_key = ", lambda: w(40, _BASE64)),
        ("gcp key", "gcp-api-key", "", lambda: "AI" + "za" + w(35)),
        ("gcp oauth", "gcp-oauth-secret", "", lambda: "GOC" + "SPX-" + w(28)),
        ("gcp access token", "gcp-access-token", "", lambda: "ya" + "29." + w(60)),
        ("gcp account", "gcp-service-account", '"private_key_id": ', lambda: f'"{w(40, _HEX)}"'),
        ("azure storage", "azure-storage-key", "AccountName=x;AccountKey=", lambda: w(86, _BASE64) + "=="),
        ("azure bus", "azure-shared-access-key", "SharedAccessKey=", lambda: w(43, _BASE64) + "="),
        ("azure signature", "azure-sas-signature", "?sv=2024&sig=", lambda: w(20) + "%2B" + w(22) + "%3D"),
        ("azure client", "azure-client-secret", "client: ", lambda: "abc" + "8Q~" + w(34)),
        ("github classic", "github-token", "", lambda: "gh" + "p_" + w(36)),
        ("github server", "github-token", "", lambda: "gh" + "s_" + w(36)),
        ("github fine-grained", "github-fine-grained-token", "", lambda: "github" + "_pat_" + w(22) + "_" + w(59)),
        ("gitlab", "gitlab-token", "", lambda: "gl" + "pat-" + w(20)),
        ("gitlab deploy", "gitlab-token", "", lambda: "gl" + "dt-" + w(20)),
        ("gitlab routable", "gitlab-token", "", lambda: "gl" + "pat-" + w(27) + ".01." + w(9)),
        ("slack bot", "slack-token", "", lambda: "xo" + "xb-" + "123456789012-" + w(24)),
        ("slack app", "slack-token", "", lambda: "xa" + "pp-1-A0B1C2D3E-" + w(40)),
        ("slack hook", "slack-webhook", "https://hooks.slack.com/services/", lambda: "T0AB1CD2E/B0FG3HI4J/" + w(24)),
        ("stripe", "stripe-key", "", lambda: "sk" + "_live_" + w(24)),
        ("stripe restricted", "stripe-key", "", lambda: "rk" + "_live_" + w(24)),
        ("stripe hook", "stripe-webhook-secret", "", lambda: "wh" + "sec_" + w(32)),
        ("twilio", "twilio-api-key", "", lambda: "S" + "K" + w(32, _HEX)),
        ("sendgrid", "sendgrid-key", "", lambda: "S" + "G." + w(22) + "." + w(43)),
        ("npm", "npm-token", "", lambda: "np" + "m_" + w(36)),
        ("pypi", "pypi-token", "", lambda: "py" + "pi-AgEIcHlwaS5vcmc" + w(60)),
        ("docker", "docker-token", "", lambda: "dckr" + "_pat_" + w(27)),
        ("hugging face", "hugging-face-token", "", lambda: "h" + "f_" + w(34)),
        ("anthropic", "anthropic-key", "", lambda: "sk-" + "ant-api03-" + w(93)),
        ("openai project", "openai-key", "", lambda: "sk-" + "proj-" + w(60)),
        ("openai classic", "openai-key", "", lambda: "sk" + "-" + w(20) + "T3Blbk" + "FJ" + w(20)),
        ("digital ocean", "digitalocean-token", "", lambda: "do" + "p_v1_" + w(64, _HEX)),
        ("heroku", "heroku-key", "", lambda: "HR" + "KU-" + w(58)),
        ("heroku uuid", "heroku-key", "HEROKU_API_KEY=", lambda: f"{w(8, _HEX)}-1a2b-4c3d-9e8f-{w(12, _HEX)}"),
        ("telegram", "telegram-token", "bot ", lambda: "123456789" + ":A" + "A" + w(33)),
        ("jwt", "json-web-token", "", lambda: "ey" + "J" + w(20) + ".ey" + "J" + w(40) + "." + w(43)),
        ("our own", "codehub-key", "", lambda: "ch" + "ub_" + w(10) + "_" + w(49)),
        ("url", "url-password", "postgres://app:", lambda: w(12) + "@db.local/x"),
        ("password", "password", "db_password = ", lambda: f'"{w(12)}"'),
        ("password in json", "password", '"password": ', lambda: f'"{w(9)}!x"'),
        ("macro", "password", "#define ROOT_PASSWORD ", lambda: f'"{w(14)}"'),
        ("secret", "secret", "clientSecret: ", lambda: f'"{w(24)}"'),
        ("token", "token", "kApiToken[] = ", lambda: f'"{w(32)}"'),
        ("access key", "access-key", "options.set_access_key", lambda: f'("{w(20)}")'),
        ("bare", "api-key", "export API_KEY=", lambda: w(32)),
        ("tagged", "password", "<password>", lambda: w(12) + "</password>"),
        ("header", "authorization-header", "Authorization: Bearer ", lambda: w(40)),
        ("rsa", "private-key", "", lambda: pem("RSA ", "rsa")),
        ("pkcs8", "private-key", "", lambda: pem("", "pkcs8")),
        ("ec", "private-key", "", lambda: pem("EC ", "ec", 2)),
        ("openssh", "private-key", "", lambda: pem("OPENSSH ", "ssh")),
        ("pgp", "private-key", "", lambda: pem("PGP ", "pgp")),
    ]
    for name, rule, before, make in forms:
        cases[name] = (rule, before, make())
    return cases


SEEDS = seeds()


def core(secret: str) -> list[str]:
    """What of a secret must be nowhere: every stretch of eight letters and digits of its longest run."""
    runs = "".join(c if c.isalnum() else " " for c in secret).split()
    longest = max(runs, key=len)
    return [longest[at : at + 8].lower() for at in range(0, len(longest) - 7, 4)]


@pytest.mark.parametrize("name", SEEDS)
def test_every_known_form_is_taken_out_and_named_with_its_line(name: str) -> None:
    rule, before, secret = SEEDS[name]
    text = f"first\nsecond {before}{secret} ;\nlast\n"
    clean, found = redact(text)
    assert found == (Redaction(rule, 2),)
    assert not [part for part in core(secret) if part in clean.lower()]
    assert clean.count("\n") == text.count("\n")
    assert clean.startswith("first\nsecond ")
    assert clean.endswith("last\n")


@pytest.mark.parametrize(
    "wrapped",
    [
        "".join(f'    "{line}\\n"\n' for line in pem("RSA ", "w").split("\n")) + ";\nint after;\n",
        "".join(f"// {line}\n" for line in pem("RSA ", "w").split("\n")) + "int after;\n",
        "".join(f"+{line}\n" for line in pem("RSA ", "w").split("\n")) + " int after;\n",
        '{"key": "' + pem("RSA ", "w").replace("\n", "\\n") + '\\n", "type": 1}\nint after;\n',
        'R"(' + pem("RSA ", "w") + ')";\nint after;\n',
        pem("RSA ", "w").rpartition("\n")[0] + "\n\nint after;\n",
    ],
    ids=["string", "comment", "patch", "json", "raw string", "cut off"],
)
def test_a_private_key_goes_with_all_its_lines_and_nothing_else(wrapped: str) -> None:
    clean, found = redact(wrapped)
    assert [entry.rule for entry in found] == ["private-key"]
    assert not [part for line in pem("RSA ", "w").split("\n")[1:-1] for part in core(line) if part in clean.lower()]
    assert clean.count("\n") == wrapped.count("\n")
    assert clean.splitlines()[-1].strip() == "int after;"
    if wrapped.lstrip().startswith('"'):
        assert all(line.strip().endswith('\\n"') for line in clean.splitlines()[:-2])  # it is still C++


CLEAN = r"""
std::string token = lexer.NextToken();  const char* password = getenv("DB_PASSWORD");
if (token == "static_assert2") return kTokenIdentifier;  auto secret_ = secret;
static const uint8_t kSha[] = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
EXPECT_EQ(Uri("http://user:password@host.com:80/path").password(), "password");
db.Connect("user", "password", "db1.local:3306"); x.password = "changeme"; const auto kApiKey = "YOUR_API_KEY_HERE";
StringPiece method("caching_sha2_password"); options.access_key = "access_key_id"; password = "${DB_PASSWORD}";
// -----BEGIN RSA PRIVATE KEY----- is how such a file begins, -----END RSA PRIVATE KEY----- how it ends.
bool IsPem(string_view s) { return s.starts_with("-----BEGIN PRIVATE KEY-----") && LooksLikeBase64EncodedData(s); }
task-force disk-cache-0123456789-abcdefghijklmnop MASK TASK42 npm_config_registry ghp_short eyJ eyJhbGciOi
uuid = "123e4567-e89b-12d3-a456-426614174000"; hash_token = 0x9e3779b97f4a7c15; pwd: /usr/local/share/lib64
secret: see docs/secrets.md; token=$(cat token.txt) --token=<token> {"token": null} token:Identifier2 SK_VALUE
AKIA is a prefix; xoxb- too; https://hooks.slack.com/services/ is where they live; sk-learn-contrib-0
"""


def test_code_that_only_speaks_of_secrets_is_left_as_it_is() -> None:
    assert redact(CLEAN) == (CLEAN, ())


def test_nothing_is_taken_out_of_the_sample_nor_out_of_this_repository() -> None:
    """Whose secrets, such as those of this file, are put together when they are needed."""
    looked = 0
    for folder in ("sample_repo", "indexer", "hub", "tests", "docs", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".md", ".h", ".cc", ".txt", ".hpp", ".cpp"}:
                text = file.read_text(encoding="utf-8", errors="replace")
                assert redact(text)[1] == (), f"{file}: {redact(text)[1]}"
                looked += 1
    assert looked > 200


PIECES = st.sampled_from(
    [
        *(before + secret for _, before, secret in SEEDS.values()),
        *CLEAN.splitlines(keepends=True),
        *(" ", "\n", '"', "=", "_", "-", "://", "a:", "@", "ab1", "İ", "\\n", "password = '", "token", BEGINS, "]"),
    ]
)


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=150, deadline=None)
def test_what_comes_out_holds_nothing_more_and_has_as_many_lines(pieces: list[str]) -> None:
    text = "".join(pieces)
    clean, found = redact(text)
    assert redact(clean) == (clean, ())
    assert clean.count("\n") == text.count("\n")
    assert bool(found) == (clean != text)
    assert all(1 <= entry.line <= text.count("\n") + 1 for entry in found)


@given(st.permutations(sorted(SEEDS)).map(lambda names: names[:4]))
@settings(max_examples=40, deadline=None)
def test_lines_without_a_secret_are_untouched_and_each_secret_counts_once(names: list[str]) -> None:
    lines: list[str] = []
    for name in names:
        _, before, secret = SEEDS[name]
        lines += [f"int {name.replace(' ', '_')}();", before + secret + " "]
    clean, found = redact("\n".join(lines))
    assert sorted(entry.rule for entry in found) == sorted(SEEDS[name][0] for name in names)
    assert [line for line in clean.split("\n") if line.startswith("int ")] == [
        line for line in lines if line.startswith("int ")
    ]


HOSTILE = [
    *("token", "password = '", "eyJ", "SK", "Q~", "://a", "://a:b@", ":AA", "-----BEGIN ", "secret_", "AccountKey="),
    *(
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n" + "A" * 20 + "\n",
        "sig=%3D",
        "sk-a-",
        "k_live_",
    ),
    *(
        "gh" + "p_a",
        "a" * 7,
        "xo" + "x",
        "aws aws ",
        "authorization: ",
        "heroku ",
        "İtoken=",
        "\\",
        "\\n",
        "1234567890",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_work_grows_with_the_length_alone_on_hostile_text(unit: str) -> None:
    """Counted in calls, each of which reads a bounded stretch, or goes over the text once."""

    def calls(text: str) -> int:
        number = 0

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal number
            number += event in {"call", "c_call"}

        sys.setprofile(count)
        try:
            redact(text)
        finally:
            sys.setprofile(None)
        return number

    short, long = calls(unit * (8_000 // len(unit))), calls(unit * (32_000 // len(unit)))
    assert long <= 4.5 * short + 2_000


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        *((path, True) for path in (".env", "a/.env.local.txt", "id_rsa", "x/id_ed25519.txt", "cert.pem", "k.kdbx")),
        *((path, True) for path in (".netrc", ".npmrc", "secrets.txt", "db-passwords.txt", "a/CREDENTIALS.TXT")),
        *(
            (path, False)
            for path in ("docs/secrets.md", "src/credentials.h", "secret.cc", "tokens.txt", "CMakeLists.txt")
        ),
        *(
            (path, False)
            for path in ("environment.txt", "README.md", "password_hash.cpp", "src/id_rsa_reader.cc", "env.txt")
        ),
    ],
)
def test_files_that_hold_nothing_else_are_known_by_name(path: str, *, meant: bool) -> None:
    assert is_secret_file(path) is meant


def test_a_file_of_secrets_is_left_out_with_its_reason_unless_it_is_allowed(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.cc": "int a;\n", "secrets.txt": "x\n", "keys/.env.txt": "x\n"})
    found = scan(tmp_path, FileRules())
    assert found.skipped == (
        ("keys/.env.txt", "holds secrets (by its name)"),
        ("secrets.txt", "holds secrets (by its name)"),
    )
    told = left_out(tmp_path, Settings(tmp_path / "data"))
    assert [(entry.path, entry.reason) for entry in told] == list(found.skipped)
    allowed = scan(tmp_path, FileRules(secrets_allow=("/secrets.txt",)))
    assert [candidate.path for candidate in allowed.candidates] == ["a.cc", "secrets.txt"]


# The whole way


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=Ada", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(
        ["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True, timeout=60, env=_CLOSED
    )


def files_with_secrets() -> dict[str, str | bytes]:
    code, document = ["#include <string>\n\nnamespace app {\n"], ["# Setup\n"]
    for number, (name, (_, before, secret)) in enumerate(SEEDS.items()):
        title = f"Setup{number}"
        if number % 3 == 0 and '"' not in before + secret and "\n" not in secret:
            code.append(f'/// Connects {name}.\nstd::string {title}() {{\n  return "{before}{secret}";\n}}\n')
        elif number % 3 == 1:
            comment = "\n".join(f"// {line}" for line in f"{before}{secret}".split("\n"))
            code.append(f"{comment}\nint {title}(int port);\n")
        else:
            document.append(f"## {title}\n\nUse this for {name}:\n\n{before}{secret}\n")
    code.append("}  // namespace app\n")
    wide = ("// " + SEEDS["npm"][2] + "\nint wide;\n").encode("utf-16")
    macro = f'#define TOKEN_OF_BUILD "{SEEDS["github classic"][2]}"\n#define LONG {"x " * 5_000}{SEEDS["npm"][2]}\n'
    return {"src/setup.cc": "\n".join(code), "docs/setup.md": "\n".join(document), "wide.rc.h": wide, "macro.h": macro}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Path, IndexReport]:
    """A tree with every known form in code, comments, documents, messages and patches, indexed with Chroma."""
    folder = tmp_path_factory.mktemp("secrets")
    root = write_tree(folder / "tree", files_with_secrets())
    write_tree(root, {"src/old.cc": f'const char* k = "{SEEDS["gitlab"][2]}";\n'})
    write_tree(root, {"src/broken.cc": f"#error {SEEDS['pypi'][2]}\nint broken;\n"})
    commands = [
        {"directory": str(root), "file": "src/broken.cc", "command": f"g++ -DKEY={SEEDS['openai project'][2]} -c x.cc"},
    ]
    write_tree(root, {"compile_commands.json": json.dumps(commands)})
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", f"Begin with {SEEDS['stripe'][2]}\n\nIts token: {SEEDS['jwt'][2]}")
    write_tree(root, {"src/old.cc": f'int old(const char* x);\nint a = old("{SEEDS["sendgrid"][2]}");\n'})
    git(root, "commit", "-q", "-a", "-m", "Rotate the key\n\n" + SEEDS["rsa"][2])
    settings = Settings(folder / "data", backend="none", index_background=False)
    report = index_tree(settings, root, "w", ignore_progress, never)
    return settings, root, report


def parts_found(text: str) -> list[str]:
    lower = text.lower()
    return [name for name, (_, _, secret) in SEEDS.items() if any(part in lower for part in core(secret))]


def test_no_file_of_the_data_folder_holds_any_of_it(indexed: tuple[Settings, Path, IndexReport]) -> None:
    options, root, report = indexed
    files = [file for file in options.data.rglob("*") if file.is_file()]
    assert {"index.db", "chroma.sqlite3"} <= {file.name for file in files}
    kept = "\n".join(file.read_bytes().decode("latin-1") for file in files)
    assert BEGINS in kept
    assert parts_found(kept) == []
    assert len(parts_found("\n".join(str(text) for text in files_with_secrets().values()))) == len(SEEDS)
    assert len(report.redacted) >= len(SEEDS)
    assert report.redacted_commits >= 3
    assert {entry.message.removeprefix("redacted: ") for entry in report.redacted} == {r for r, _, _ in SEEDS.values()}
    assert all((root / entry.path).is_file() and entry.line for entry in report.redacted)


def test_nothing_that_leaves_an_index_holds_any_of_it(
    indexed: tuple[Settings, Path, IndexReport], capsys: pytest.CaptureFixture[str]
) -> None:
    options, _, _ = indexed
    data = DataFolder(options.data)
    backend = ScriptedBackend(*spoken("It is set up there [1]."))
    told: list[str] = []
    queries = ("password", "token of build", "private key", "Setup4", "Rotate the key", "Begin with stripe")
    service = Service(Index.for_reading(data, "w"), lambda: [StaticEmbedder()], lambda: backend, AskOptions())
    with contextlib.closing(service):
        for query in queries:
            told += [hit.chunk.text + hit.chunk.title for hit in service.search(query, 50).hits]
        for tier in (Tier.RAG, Tier.WIDE):
            told.append(service.ask("How is the token of the build set up?", tier).text)
    with Index.for_reading(data, "w") as index:
        told += tree_of(index).texts.values()
        told += [repr(index.macros.definitions()), repr(list(index.facts.all_symbols()))]
    for command in (["export"], ["search", "key", "--json"], ["history", "src/old.cc", "--json"], ["symbol", "old"]):
        main([*command, "--data", str(options.data), "--workspace", "w"])
        told.append(capsys.readouterr().out)
    prompts = [prompt.system + prompt.user for prompt in backend.prompts]
    assert len(prompts) == 2
    assert any(BEGINS in prompt for prompt in prompts)
    assert len("".join(told)) > 20_000
    assert parts_found("\n".join([*told, *prompts])) == []


def test_a_log_that_is_asked_for_its_own_sake_tells_none_either(indexed: tuple[Settings, Path, IndexReport]) -> None:
    _, root, _ = indexed
    source = history.source_of(root, "HEAD")
    assert source is not None
    hashes = [commit for commit, _ in history.commits(source, 10)]

    def told(source: history.HistorySource) -> str:
        messages = [entry.subject + entry.body for entry in history.entries(source, hashes)]
        return "\n".join([*messages, *(repr(patch) for patch in history.patches(source, hashes))])

    assert parts_found(told(source)) == []
    assert {"stripe", "jwt", "rsa", "sendgrid", "gitlab"} <= set(parts_found(told(replace(source, redacts=False))))


def test_what_is_redacted_is_read_again_when_that_is_set_otherwise(tmp_path: Path) -> None:
    secret = SEEDS["github classic"][2]
    root = write_tree(
        tmp_path / "tree", {"a.cc": f'const char* a = "{secret}";\n', "b.cc": f'const char* b = "{secret}";\n'}
    )
    plain = Settings(tmp_path / "data", backend="none", embeddings="none", index_background=False)

    def index(options: Settings) -> tuple[int, list[str], list[str]]:
        report = index_tree(options, root, "w", ignore_progress, never)
        with Index.for_reading(DataFolder(options.data), "w") as opened:
            paths = sorted(opened.table.known_files())
            texts = {path: "".join(chunk.text for chunk in opened.table.chunks_of(path)) for path in paths}
            assert not opened.table.problems()
            assert [entry.path for entry in opened.table.redactions()] == [entry.path for entry in report.redacted]
        return report.changed, [path for path in paths if secret in texts[path]], [e.path for e in report.redacted]

    assert index(plain) == (2, [], ["a.cc", "b.cc"])
    assert index(plain) == (0, [], ["a.cc", "b.cc"])
    assert index(replace(plain, secrets_allow=("b.*",))) == (2, ["b.cc"], ["a.cc"])
    assert index(replace(plain, secrets_redact=False)) == (2, ["a.cc", "b.cc"], [])
    assert index(plain) == (2, [], ["a.cc", "b.cc"])


def test_the_report_says_what_was_kept_out_without_telling_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("EMBEDDINGS", "none"), ("INDEX_BACKGROUND", "0"), ("BACKEND", "none")):
        monkeypatch.setenv(f"CODEHUB_{name}", value)
    root = write_tree(tmp_path / "tree", {"a.cc": f'int a;\nconst char* b = "{SEEDS["npm"][2]}";\n'})
    data = ["--data", str(tmp_path / "data")]
    assert main(["index", str(root), *data]) == 0
    told = capsys.readouterr().out
    assert "1 secrets in files and 0 in messages of commits were not indexed" in told
    assert "a.cc:2: redacted: npm-token" in told
    assert main(["status", *data]) == 0
    assert "1 secrets of the tree and its history are not in the index" in capsys.readouterr().out
