"""Variants as they are declared: what can be said, what is told about everything else, and what a hash is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ProblemsError, UsageError
from harness.runs.order import interleaved
from harness.runs.request import RunRequest
from harness.variants.apply import variant_files
from harness.variants.declared import VariantFile, VariantResolver, load_variants, source_for
from harness.variants.variant import DEFAULT, ClaudeMd, Removed, TemplateSource, Text, Variant, with_secrets
from tests.support.folders import write_files


def declared(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> VariantFile:
    """What a variants.toml with files beside it declares."""
    write_files(folder, {"variants.toml": toml, **(files or {})})
    return load_variants(folder / "variants.toml")


def one(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> Variant:
    """The only variant that a file declares."""
    (variant,) = declared(folder, toml, files).variants
    return variant


def names(found: VariantFile) -> list[str]:
    return [variant.name for variant in found.variants]


EVERYTHING = """
[all]
model = "opus"
template = "mine"
args = ["--add-dir", "/tmp"]
env = { MODE = "fast" }
claude_md = { file = "terse.md", mode = "append" }
system_prompt = "system.md"
append_system_prompt = { text = "Say please." }
settings = "settings.json"
overlay = "over"
network = ["api.example.com", "10.0.0.0/8"]

[all.mcp.docs]
command = "docs-server"
args = ["--fast"]
env = { TOKEN = "${env:DOCS_TOKEN}" }
tools = ["search"]

[all.mcp.web]
url = "https://mcp.example.com/mcp"
headers = { Authorization = "Bearer ${env:WEB_TOKEN}" }

[all.mcp_gateway]
duckduckgo = {}
"""
FILES: dict[str, str | bytes] = {
    "terse.md": "Be terse.\n",
    "system.md": "You are terse.\n",
    "settings.json": '{"env": {"A": "b"}}',
    "over/repo/.claude/skills/greet/SKILL.md": "---\nname: x\n---\nSay hello.\n",
    "over/repo/.claude/commands/git/ship.md": "Ship it.\n",
    "over/home/.claude/agents/rev.md": "---\nname: 'reviewer'\ndescription: Reviews.\n---\nReview.\n",
    "over/home/.claude/agents/README.md": "No agent.\n",
}


def test_every_key_means_what_it_says(tmp_path: Path) -> None:
    """Files are read; what they say is what the variant has."""
    variant = one(tmp_path, EVERYTHING, FILES)

    assert (variant.name, variant.model, variant.template) == ("all", "opus", "mine")
    assert (variant.args, variant.env) == (("--add-dir", "/tmp"), {"MODE": "fast"})
    assert variant.claude_md == ClaudeMd("Be terse.\n", append=True)
    assert variant.system_prompt == Text("You are terse.\n")
    assert variant.append_system_prompt == Text("Say please.")
    assert variant.settings == {"env": {"A": "b"}}
    assert variant.overlay
    assert variant.overlay.names == {"skill": ("greet",), "command": ("git:ship",), "agent": ("reviewer",)}
    assert variant.mcp
    assert (variant.mcp["docs"].command, variant.mcp["docs"].tools) == ("docs-server", ("search",))
    assert (variant.mcp["web"].url, variant.mcp["web"].tools) == ("https://mcp.example.com/mcp", None)
    assert variant.mcp_gateway == {"duckduckgo": {}}
    assert variant.network == ("api.example.com", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('"terse.md"', ClaudeMd("Be terse.\n")),
        ('{ file = "terse.md" }', ClaudeMd("Be terse.\n")),
        ('{ file = "terse.md", mode = "append" }', ClaudeMd("Be terse.\n", append=True)),
        ('{ text = "No." }', ClaudeMd("No.")),
        ("false", Removed()),
    ],
)
def test_a_claude_md_is_a_file_a_text_or_none(tmp_path: Path, given: str, expected: object) -> None:
    """A string names a file, as it does wherever a text is wanted."""
    assert one(tmp_path, f"[a]\nclaude_md = {given}\n", FILES).claude_md == expected


def test_no_servers_is_something_else_than_no_word_about_them(tmp_path: Path) -> None:
    """An empty table takes the repo's own servers away."""
    with_none, plain = declared(tmp_path, "[none]\nmcp = {}\n[plain]\n").variants

    assert (with_none.mcp, plain.mcp) == ({}, None)
    assert with_none.hash != plain.hash


def test_a_template_may_be_a_file_beside_the_variants(tmp_path: Path) -> None:
    """Found from wherever the tasks are; its content counts for the hash, its place does not."""
    files: dict[str, str | bytes] = {"t/mine.py": "x = 1", "t/Dockerfile": "FROM a", "other/mine.py": "x = 1"}
    toml = (
        "[a]\ntemplate = 't/mine.py:x'\n[b]\ntemplate = 'other/mine.py:x'\n[c]\ntemplate = 't/Dockerfile'\n"
    )
    a, b, c = declared(tmp_path, toml, files).variants

    assert [v.template.path for v in (a, c) if isinstance(v.template, TemplateSource)] == [
        f"{tmp_path.resolve()}/t/mine.py:x",
        f"{tmp_path.resolve()}/t/Dockerfile",
    ]
    assert a.hash == b.hash != c.hash


# What extends what, and grids


def test_a_variant_has_what_it_does_not_give_from_the_one_that_it_extends(tmp_path: Path) -> None:
    """Tables are laid over each other key by key, everything else is replaced; whoever comes first in the file."""
    toml = """
    [c]
    extends = "b"
    args = []
    [b]
    extends = "a"
    env = { TWO = "b", THREE = "b" }
    mcp.second = { command = "two" }
    [a]
    model = "opus"
    args = ["--add-dir", "/tmp"]
    env = { ONE = "a", TWO = "a" }
    mcp.first = { command = "one" }
    """
    c, b, a = declared(tmp_path, toml).variants

    assert b.env == {"ONE": "a", "TWO": "b", "THREE": "b"}
    assert list(b.mcp or {}) == ["first", "second"]
    assert (b.model, b.args) == ("opus", ("--add-dir", "/tmp"))
    assert (c.args, c.env) == ((), b.env)
    assert list(a.mcp or {}) == ["first"]


def test_a_grid_has_a_variant_for_each_combination(tmp_path: Path) -> None:
    """With names that can be read, after the named variants, and on the ground of the one that it extends."""
    toml = """
    [plain]
    args = ["--add-dir", "/tmp"]
    [matrix]
    extends = "plain"
    model = ["haiku", "claude-opus-4-5"]
    claude_md = ["terse.md", false]
    """
    found = declared(tmp_path, toml, FILES)

    assert names(found) == [
        "plain",
        "haiku-terse",
        "haiku-no-claude-md",
        "claude-opus-4-5-terse",
        "claude-opus-4-5-no-claude-md",
    ]
    assert {variant.args for variant in found.variants} == {("--add-dir", "/tmp")}
    assert found.variants[2].claude_md == Removed()
    assert found.variants[3].model == "claude-opus-4-5"


def test_an_axis_can_name_its_values(tmp_path: Path) -> None:
    """Where a value has no short name of its own."""
    toml = """
    [matrix.env]
    slow = {}
    fast = { MODE = "fast" }
    [matrix.args]
    low = ["--add-dir", "/opt"]
    """
    found = declared(tmp_path, toml)

    assert names(found) == ["slow-low", "fast-low"]
    assert found.variants[1].env == {"MODE": "fast"}


def test_values_without_a_name_are_numbered(tmp_path: Path) -> None:
    """By their place on the axis."""
    toml = (
        '[matrix]\nclaude_md = [{ text = "a" }, { file = "terse.md" }]\nargs = [[], ["--add-dir", "/opt"]]\n'
    )

    assert names(declared(tmp_path, toml, FILES)) == [
        "claude-md-1-args-1",
        "claude-md-1-add-dir-opt",
        "terse-args-1",
        "terse-add-dir-opt",
    ]


# Prices


def test_prices_are_for_all_variants_and_no_part_of_the_treatment(tmp_path: Path) -> None:
    """A model's name may have dots and slashes; the hash is what it would be without."""
    prices = "[prices.'z-ai/glm-4.6']\ninput = 0.6\noutput = 2\ncache_read = 0.11\n"
    given = {"z-ai/glm-4.6": {"input": 0.6, "output": 2, "cache_read": 0.11}}
    (tmp_path / "without").mkdir()
    plain = declared(tmp_path / "without", "[a]\nmodel = 'x'\n[b]\n").variants
    found = declared(tmp_path, f"[a]\nmodel = 'x'\n[b]\n{prices}").variants

    assert [variant.prices for variant in found] == [given, given]
    assert [(variant.name, variant.hash) for variant in found] == [(one.name, one.hash) for one in plain]
    alone = one(tmp_path, prices)
    assert (alone.name, alone.hash, alone.prices) == ("default", DEFAULT.hash, given)


# What is wrong

WRONG = [
    ("[a]\n\nmodle = 'opus'\n", "variants.toml:3: a.modle: is not a known key (did you mean 'model'?)"),
    ("[a]\nmodel = 4\n", "variants.toml:2: a.model: should be a valid string, not 4 (give a model's name"),
    ("[a]\nmodel = ''\n", "variants.toml:2: a.model: '' is empty"),
    ("model = 'opus'\n", "variants.toml:1: model: stands outside of any variant (write it below a [NAME])"),
    ("['a b']\n", "variants.toml:1: a b: cannot be a variant's name (use up to 100 letters"),
    ("[not]\n", "variants.toml:1: not: cannot be a variant's name"),
    ("[prices]\nglm = 3\n", "variants.toml:2: prices.glm: should be a table, not 3 (write [prices.MODEL]"),
    ("[prices.glm]\ninput = 1\n", "variants.toml:1: prices.glm.output: is missing"),
    ("[prices.glm]\ninput = -1\noutput = 2\n", "variants.toml:2: prices.glm.input: should be greater than"),
    (
        "[prices.glm]\ninput = '1'\noutput = 2\n",
        "variants.toml:2: prices.glm.input: should be a valid number",
    ),
    (
        "[prices.glm]\ninput = inf\noutput = 2\n",
        "variants.toml:2: prices.glm.input: should be a finite number",
    ),
    ("[prices.glm]\ninput = 1\noutput = 2\ncached = 1\n", "prices.glm.cached: is not a known key"),
    ("prices = 3\n", "variants.toml:1: prices: should be a table, not 3 (write [prices.MODEL])"),
    ("", "variants.toml: declares no variant (write a table for each: [NAME]"),
    ("[a\n", "variants.toml: is not valid TOML: "),
    ("[a]\nargs = '--fast'\n", "variants.toml:2: a.args: should be a valid list, not '--fast' (give a list"),
    (
        "[a]\nargs = ['--model=x']\n",
        "variants.toml:2: a.args: ['--model=x'] holds --model: use the key `model`",
    ),
    ("[a]\nargs = ['-p']\n", "a.args: ['-p'] holds -p: harness sets it"),
    (
        "[a]\nenv = { 'A-B' = 'x' }\n",
        "variants.toml:2: a.env.A-B: 'A-B' cannot be used (give strings by the names",
    ),
    ("[a]\nenv = { A = 1 }\n", "variants.toml:2: a.env.A: should be a valid string, not 1"),
    ("[a]\nclaude_md = true\n", "a.claude_md: True is neither the name of a file nor {file"),
    ("[a]\nclaude_md = 'no.md'\n", "a.claude_md: 'no.md' does not exist (names are relative to the file"),
    ("[a]\nclaude_md = 'over'\n", "a.claude_md: 'over' is not a file"),
    ("[a]\nclaude_md = 'empty.md'\n", "a.claude_md: 'empty.md' is empty (write something into it)"),
    ("[a]\nclaude_md = 'latin.md'\n", "a.claude_md: 'latin.md' is not UTF-8 text"),
    ("[a]\nclaude_md = {file = 'terse.md', mode = 'prepend'}\n", "has mode = 'prepend', which is neither"),
    ("[a]\nclaude_md = {file = 'terse.md', text = 'x'}\n", "is neither the name of a file nor {file"),
    ("[a]\nsystem_prompt = false\n", "a.system_prompt: False is neither the name of a file nor {file"),
    ("[a]\nsettings = 'terse.md'\n", "a.settings: 'terse.md' is not valid JSON"),
    ("[a]\nsettings = 'list.json'\n", "a.settings: 'list.json' is not a JSON object"),
    ("[a]\nsettings = { day = 2026-11-23 }\n", "is not a JSON object"),
    ("[a]\nsettings = { disableAllHooks = true }\n", "a.settings: disableAllHooks would switch off the hook"),
    (
        "[a]\nsettings = { env = { ANTHROPIC_BASE_URL = 'http://127.0.0.1:9' } }\n",
        "a.settings: env.ANTHROPIC_BASE_URL would lead Claude Code away from the API, or the replay, that the run has",
    ),
    (
        "[a]\ntemplate = 'no.py:x'\n",
        "variants.toml:2: a.template: 'no.py' does not exist (names are relative",
    ),
    ("[a]\noverlay = 'nowhere'\n", "a.overlay: 'nowhere' does not exist"),
    (
        "[a]\noverlay = 'flat'\n",
        "a.overlay: 'flat' holds skills, which would be laid nowhere (put what goes into",
    ),
    ("[a]\nextends = 'b'\n", "variants.toml:2: a.extends: there is no variant 'b' (there are: a)"),
    ("[a]\nextends = 'b'\n[b]\nextends = 'a'\n", "variants.toml:2: a.extends: leads back to 'a' itself"),
    ("[a]\nmcp = ['x']\n", "a.mcp: should be a table, not ['x']"),
    ("[a]\n[a.mcp.x]\n", "variants.toml:2: a.mcp.x: {} needs either `command`"),
    (
        "[a.mcp.x]\ncommand = 'x'\nurl = 'http://x'\n",
        "a.mcp.x: {'command': 'x', 'url': 'http://x'} needs either",
    ),
    ("[a.mcp.x]\nurl = 'http://x'\nargs = ['y']\n", "has a `url`, to which `args` and `env` mean nothing"),
    ("[a.mcp.x]\ncommand = 'x'\nheaders = { A = 'b' }\n", "has a `command`, to which `headers` mean nothing"),
    ("[a.mcp.x]\nurl = 'x'\n", "variants.toml:2: a.mcp.x.url: 'x' is not a URL such as"),
    ("[a.mcp.x]\ncomand = 'x'\n", "a.mcp.x.comand: is not a known key (did you mean 'command'?)"),
    ("[a.mcp.x__y]\ncommand = 'x'\n", "a.mcp.x__y: 'x__y' cannot be used"),
    ("[a]\nnetwork = ['https://x']\n", "a.network.0: 'https://x' cannot be used (give a list of hosts"),
    (
        "[a]\nnetwork = ['10.0.0.0/99']\n",
        "a.network.0: '10.0.0.0/99' is no network (CIDR) (give a list of hosts",
    ),
    (
        "[a]\ntemplate = 'x.py'\n",
        "a.template: 'x.py' names a file alone (say which of its names is the template",
    ),
    ("matrix = 1\n", "variants.toml:1: matrix: should be a table, not 1"),
    (
        "[matrix]\nmodle = ['a']\n",
        "variants.toml:2: matrix.modle: is not a known key (did you mean 'model'?)",
    ),
    ("[matrix]\nmodel = 'a'\n", "variants.toml:2: matrix.model: 'a' is no axis (give a list such as"),
    ("[matrix]\nmodel = []\n", "matrix.model: [] is no axis"),
    ("[matrix]\nmodel = ['a', 1]\n", "variants.toml:2: matrix.model: should be a valid string, not 1"),
    (
        "[matrix]\nmodel = ['a', 'a']\n",
        "matrix.model: two of its values would be called 'a' (name the values",
    ),
    ("[matrix]\nextends = 'z'\nmodel = ['a']\n", "variants.toml:2: matrix.extends: there is no variant 'z'"),
    ("[a]\n[matrix]\nmodel = ['a']\n", "matrix: 'a' is two variants' name (name an axis's values"),
]


@pytest.mark.parametrize(("toml", "words"), WRONG, ids=[words[-40:] for _, words in WRONG])
def test_what_is_wrong_is_told_with_line_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: str, words: str
) -> None:
    """One sentence for one mistake: file, line, key, what, and what would be right."""
    monkeypatch.chdir(tmp_path)
    files: dict[str, str | bytes] = {
        **FILES,
        "list.json": "[]",
        "empty.md": " \n",
        "latin.md": b"\xff",
        "flat/skills/x/SKILL.md": "x",
    }
    with pytest.raises(ProblemsError) as caught:
        declared(tmp_path, toml, files)

    assert words in str(caught.value)
    assert len(caught.value.problems) == 1


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """A key that is wrong hides no other, and what extends a wrong table is not blamed for it."""
    toml = "[a]\nmodel = 1\nclaude_md = 'no.md'\nenv = { A = 1 }\n[b]\nextends = 'a'\nmodle = 2\n"
    with pytest.raises(ProblemsError) as caught:
        declared(tmp_path, toml)

    assert [problem.field for problem in caught.value.problems] == [
        "a.model",
        "a.env.A",
        "a.claude_md",
        "b.modle",
    ]


def test_a_line_is_told_behind_anything_that_toml_can_hold(tmp_path: Path) -> None:
    """Strings and lists over several lines, quoted keys, comments: what looks like a key or a table is not one."""
    toml = '''
[first]  # [second]
system_prompt.text = """
[second]
modle = "no"
"""
args = [
    "--debug-file",
    "[second]",
]
["second"]
"modle" = 1
'''
    with pytest.raises(ProblemsError) as caught:
        declared(tmp_path, toml)

    (problem,) = caught.value.problems
    assert problem.file.endswith("variants.toml:12")


def test_a_link_that_leads_out_of_an_overlay_is_told(tmp_path: Path) -> None:
    """What it leads to would not be there."""
    (tmp_path / "over" / "repo").mkdir(parents=True)
    (tmp_path / "over" / "repo" / "link").symlink_to("../../elsewhere")
    with pytest.raises(ProblemsError, match="link is a link that leads out"):
        declared(tmp_path, "[a]\noverlay = 'over'\n")


# Where they are found, and who is chosen


def test_the_nearest_file_declares_a_tasks_variants(tmp_path: Path) -> None:
    """Beside the task's folder, or further up to the root; not beyond it."""
    write_files(
        tmp_path,
        {
            "variants.toml": "[beyond]",
            "root/pyproject.toml": "[tool.harness.variants.project]\nmodel = 'opus'\n",
            "root/near/variants.toml": "[near]",
            "root/near/task/task.toml": "",
            "root/far/task/task.toml": "",
        },
    )
    root = tmp_path / "root"
    catalogue = VariantResolver(root, None, ())

    assert [variant.name for variant in catalogue.for_task(root / "near" / "task")] == ["near"]
    assert [variant.name for variant in catalogue.for_task(root / "far" / "task")] == ["project"]
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert VariantResolver(root, None, ()).for_task(root / "far" / "task") == (DEFAULT,)


def test_two_files_of_one_folder_are_one_too_many(tmp_path: Path) -> None:
    """Nobody could tell which is meant."""
    write_files(tmp_path, {"variants.toml": "[a]", "pyproject.toml": "[tool.harness.variants.b]\n"})
    with pytest.raises(ProblemsError, match=r"pyproject.toml beside it declares variants too \(keep one"):
        source_for(tmp_path / "task", tmp_path)


def test_a_name_means_one_treatment_in_a_run(tmp_path: Path) -> None:
    """Trials are compared by it; the same treatment may be declared twice."""
    write_files(tmp_path, {"a/variants.toml": "[v]\n", "b/variants.toml": "[v]\n[w]\n"})
    catalogue = VariantResolver(tmp_path, None, ())
    assert (
        len(catalogue.for_task(tmp_path / "a" / "task")) + len(catalogue.for_task(tmp_path / "b" / "task"))
        == 3
    )

    write_files(tmp_path, {"b/variants.toml": '[v]\nmodel = "opus"\n'})
    catalogue = VariantResolver(tmp_path, None, ())
    catalogue.for_task(tmp_path / "a" / "task")
    with pytest.raises(
        UsageError, match=r"'v' is one thing in .*a/variants.toml and another in .*b/variants.toml"
    ):
        catalogue.for_task(tmp_path / "b" / "task")


def test_a_problem_in_pyproject_is_told_with_its_line(tmp_path: Path) -> None:
    """As in a file of its own."""
    write_files(tmp_path, {"pyproject.toml": "[project]\nname = 'x'\n[tool.harness.variants.b]\nmodle = 1\n"})
    with pytest.raises(ProblemsError, match=r"pyproject.toml:4: b.modle: is not a known key"):
        load_variants(tmp_path / "pyproject.toml")


def test_a_file_can_be_named_for_all_tasks(tmp_path: Path) -> None:
    """Whatever lies beside them; one that is not there is told."""
    write_files(tmp_path, {"variants.toml": "[near]", "other.toml": "[other]"})

    assert [
        v.name for v in VariantResolver(tmp_path, tmp_path / "other.toml", ()).for_task(tmp_path / "task")
    ] == ["other"]
    with pytest.raises(ProblemsError, match=r"missing.toml: cannot be read: No such file"):
        VariantResolver(tmp_path, tmp_path / "missing.toml", ()).for_task(tmp_path / "task")


def test_some_can_be_chosen_by_name(tmp_path: Path) -> None:
    """In the order that is asked for; a name that there is not is told, with those that there are."""
    found = declared(tmp_path, "[a]\n[b]\n[c]\n")

    def chosen(*names: str) -> list[tuple[str, int]]:
        return [(variant.name, variant.position) for variant in found.chosen(names)]

    assert chosen("c", "a", "c") == [("c", 0), ("a", 1)]
    assert chosen() == [("a", 0), ("b", 1), ("c", 2)]
    with pytest.raises(UsageError, match=r"there is no variant 'd' in .*\n.*there are: a, b, c"):
        found.chosen(["a", "d"])
    with pytest.raises(
        UsageError, match=r"there is no variant 'd' since there is no variants.toml\n.*default"
    ):
        VariantFile().chosen(["d"])


# What a hash is over


def test_a_hash_is_over_contents_and_not_over_names(tmp_path: Path) -> None:
    """Neither the variant's name nor a file's counts; what the file says does."""
    toml = '[a]\nclaude_md = "one.md"\n[b]\nclaude_md = "two.md"\n[c]\nclaude_md = { text = "same\\n" }\n'
    a, b, c = declared(tmp_path, toml, {"one.md": "same\n", "two.md": "same\n"}).variants
    (tmp_path / "one.md").write_text("other\n")
    changed = load_variants(tmp_path / "variants.toml").variants[0]

    assert a.hash == b.hash == c.hash
    assert changed.hash != a.hash


def test_every_key_counts_for_the_hash(tmp_path: Path) -> None:
    """Two treatments that differ in anything are told apart."""
    toml = EVERYTHING.strip().split("\n\n")[0].splitlines()[1:]
    tables = [f"[v{number}]\n{line}\n" for number, line in enumerate(toml)]
    tables += ["[plain]\n", '[s1]\nmcp.x = {command = "y"}\n', '[s2]\nmcp.x = {command = "y", tools = []}\n']
    found = declared(tmp_path, "".join(tables), FILES).variants

    assert len({variant.hash for variant in found}) == len(found) == 13


def test_a_file_of_an_overlay_counts_for_its_hash(tmp_path: Path) -> None:
    """By its content and its executable bit."""
    toml = "[a]\noverlay = 'over'\n"
    seen = [one(tmp_path, toml, {"over/repo/run.sh": "echo 1\n"}).hash]
    (tmp_path / "over" / "repo" / "run.sh").chmod(0o755)
    seen.append(load_variants(tmp_path / "variants.toml").variants[0].hash)
    (tmp_path / "over" / "repo" / "run.sh").write_text("echo 2\n")
    seen.append(load_variants(tmp_path / "variants.toml").variants[0].hash)

    assert len(set(seen)) == 3


# Secrets


def test_secrets_are_known_by_their_names_alone(tmp_path: Path) -> None:
    """Neither the hash nor what a record tells has their values; they are put in where they are used."""
    variant = one(tmp_path, EVERYTHING, FILES)
    environ = {"DOCS_TOKEN": "secret-of-docs", "WEB_TOKEN": "secret-of-web"}

    assert variant.secrets == ("DOCS_TOKEN", "WEB_TOKEN")
    assert "${env:WEB_TOKEN}" in str(variant.as_record())
    assert with_secrets({"a": ["Bearer ${env:WEB_TOKEN}"]}, environ) == {"a": ["Bearer secret-of-web"]}
    assert RunRequest((variant,)).secrets(environ) == environ


@pytest.mark.parametrize(("value", "words"), [("", "is not set"), ("short", "has fewer than 8 characters")])
def test_a_secret_that_cannot_be_kept_is_told(tmp_path: Path, value: str, words: str) -> None:
    """Before anything runs, with the variant that wants it."""
    variant = one(tmp_path, '[a]\nenv = { KEY = "${env:MY_KEY}" }\n')
    with pytest.raises(UsageError, match=rf"variant 'a' refers to \$\{{env:MY_KEY\}}, and MY_KEY {words}"):
        RunRequest((variant,)).secrets({"MY_KEY": value} if value else {})


# The order


def test_luggage_knows_whether_it_holds_a_secret(tmp_path: Path) -> None:
    """What does is not sent within a command, which platforms log."""
    server = 'mcp.web = { url = "https://example.org", headers = { Authorization = "Bearer %s" } }\n'
    open_, kept = (one(tmp_path, f"[a]\n{server % value}") for value in ("public", "${env:WEB_TOKEN}"))
    assert not variant_files(open_, {}).secret
    assert variant_files(kept, {"WEB_TOKEN": "secret-of-web"}).secret
    assert variant_files(DEFAULT, {}, gateway_token="token").secret


def test_the_variants_of_an_index_run_side_by_side() -> None:
    """In an order that the seed, the task and the index decide, and nothing else."""
    variants = [Variant(name) for name in "abcd"]
    plan = interleaved("task", variants, 6, seed=1)
    found = [[variant.name for variant, index in plan if index == number] for number in range(1, 7)]

    assert [index for _, index in plan] == sorted(index for _, index in plan)
    assert all(sorted(block) == list("abcd") for block in found)
    assert len({tuple(block) for block in found}) > 1
    assert interleaved("task", variants, 6, seed=1) == plan
    assert interleaved("task", variants, 3, seed=1) == plan[:12]
    assert interleaved("task", variants, 6, seed=2) != plan
    assert interleaved("other", variants, 6, seed=1) != plan
