"""Variants, through the real CLI in real sandboxes: what was asked for is there, and a record proves it.

Whatever is not there makes a trial invalid, with the difference said, before money is spent on it where that can be.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2b import Template

from harness.errors import SandboxFault
from harness.local.launch import LocalServer
from harness.records.record import TrialRecord
from harness.records.record_parts import InstructionsRecord
from harness.records.session import Session
from harness.trials.cli_starts import differences_in_starts, parse_cli_starts, start_records, unseen_notes
from harness.trials.init_checks import differences_in_init
from harness.trials.verification import (
    Instructions,
    differences_in_instructions,
    missing_evidence_notes,
    untold_notes,
)
from harness.variants.declared import load_variants
from harness.variants.variant import ClaudeMd, Removed, Text, Variant
from tests.support import mcp_echo, mcp_http
from tests.support.folders import task_folder, write_files
from tests.support.messages_api import Forever, Hang, MessagesApi, Say, Step, Use
from tests.support.trials import Story, tell

OLD = "Old rules.\n"
WRITE = Use("Bash", {"command": "echo 42 >answer.txt"})
REPO: dict[str, str | bytes] = {"question.txt": "6 x 7?\n", "CLAUDE.md": OLD}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def variant(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> Variant:
    """The variant `v`, as a user would declare it."""
    write_files(folder, {"variants.toml": f"[v]\n{toml}\n", **(files or {})})
    return load_variants(folder / "variants.toml").variants[0]


def trial(
    server: LocalServer,
    root: Path,
    toml: str = "",
    files: dict[str, str | bytes] | None = None,
    *,
    repo: dict[str, str | bytes] | None = None,
    task: str = "",
    script: list[Step] | None = None,
    secrets: dict[str, str] | None = None,
) -> tuple[Story, MessagesApi]:
    """One trial of a variant, and the model's API that it talked to."""
    folder = task_folder(root, repo=REPO if repo is None else repo, toml=task)
    with MessagesApi(script or [WRITE, Say("done")]) as api:
        story = tell(server, api, folder, variant=variant(root, toml, files), secrets=secrets)
    return story, api


def loaded(record: TrialRecord) -> dict[str, str | None]:
    return {entry.path: entry.sha256 for entry in record.instructions}


def invalid(story: Story) -> tuple[str, ...]:
    """Why a trial is invalid; nobody's verdict is in it."""
    record = story.record
    assert (record.outcome, record.score, record.checks, record.error) == ("invalid", None, (), None)
    return record.differences


# CLAUDE.md


def test_without_a_variant_the_repos_own_is_loaded(server: LocalServer, tmp_path: Path) -> None:
    """And the record shows it, with the hash of what it said."""
    story, _ = trial(server, tmp_path)

    assert story.record.outcome == "passed"
    assert loaded(story.record) == {"repo/CLAUDE.md": sha(OLD)}
    assert story.record.asked == {}


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ('claude_md = "new.md"', "New rules.\n"),
        ('claude_md = { file = "new.md", mode = "append" }', f"{OLD}\nNew rules.\n"),
    ],
)
def test_a_claude_md_replaces_or_goes_on(server: LocalServer, tmp_path: Path, toml: str, text: str) -> None:
    """The model is told it; the diff does not show it; the record proves it."""
    story, api = trial(server, tmp_path, toml, {"new.md": "New rules.\n"})
    diff = (story.folder.path / str(story.record.diff)).read_text()

    assert story.record.outcome == "passed"
    assert loaded(story.record) == {"repo/CLAUDE.md": sha(text)}
    assert text in api.requests[0].prompt
    assert "+42" in diff
    assert "CLAUDE.md" not in diff
    assert story.record.asked["claude_md"]["sha256"] == sha("New rules.\n")


def test_a_repos_claude_md_can_be_taken_away(server: LocalServer, tmp_path: Path) -> None:
    """To see whether it does anything at all; wherever it is, and AGENTS.md too, which would be read in its place."""
    repo: dict[str, str | bytes] = {"AGENTS.md": OLD, ".claude/CLAUDE.md": "More rules.\n"}
    folder = task_folder(tmp_path, repo=repo)
    (folder / "repo" / "CLAUDE.md").symlink_to("AGENTS.md")
    with MessagesApi([Use("Bash", {"command": "ls -A; echo 42 >answer.txt"}), Say("done")]) as api:
        story = tell(server, api, folder, variant=variant(tmp_path, "claude_md = false"))

    assert (story.record.outcome, loaded(story.record)) == ("passed", {})
    assert OLD.strip() not in str(api.requests[1].body)
    assert "AGENTS.md" not in str(api.requests[1].tool_results)


def test_what_the_agent_does_to_a_variants_claude_md_is_in_the_diff(
    server: LocalServer, tmp_path: Path
) -> None:
    """Against what the variant put there; a protected one is put back to it."""
    script: list[Step] = [Use("Bash", {"command": "echo 42 | tee answer.txt >CLAUDE.md"}), Say("done")]
    story, _ = trial(
        server,
        tmp_path,
        'claude_md = { text = "New rules." }',
        task='[checks]\nprotect = ["CLAUDE.md"]\nrun.kept = "grep -qx \'New rules.\' CLAUDE.md"\n',
        script=script,
    )
    diff = (story.folder.path / str(story.record.diff)).read_text()

    assert "-New rules." in diff
    assert [(change.path, change.change) for change in story.record.tampering] == [("CLAUDE.md", "modified")]
    assert story.record.outcome == "passed"


@pytest.mark.parametrize(
    "toml",
    [
        'args = ["--setting-sources", "user"]',
        'settings = { claudeMdExcludes = ["**/CLAUDE.md"] }',
        'args = ["--bare"]',
    ],
)
def test_a_claude_md_that_is_not_loaded_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path, toml: str
) -> None:
    """Whatever keeps Claude Code from it."""
    story, _ = trial(server, tmp_path, f'claude_md = {{ text = "New rules." }}\n{toml}')

    assert invalid(story) == ("repo/CLAUDE.md was put there, and Claude Code did not load it",)


def test_a_claude_md_that_a_program_replaces_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """What was loaded is not what was asked for."""
    program = 'echo other >CLAUDE.md; exec /opt/claude/claude "$@"'
    toml = f'claude_md = {{ text = "New rules." }}\n{OWN_PROGRAMS}'
    story, _ = trial(server, tmp_path, toml, task=with_program("claude", program))

    (difference,) = invalid(story)
    assert difference.startswith("Claude Code loaded another repo/CLAUDE.md (sha256 ")


SLOW = """#!/usr/bin/env python3
import os, pathlib, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
if b"/hook.sh" in pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_bytes():
    signal.sigwait([signal.SIGTERM])
    while True:
        signal.pause()
os.execv("/usr/bin/sha256sum", ["sha256sum"])
"""
"""What hashes the loaded instructions, and has not done so when Claude Code exits and ends its hooks."""


OWN_PROGRAMS = 'env = { PATH = "/home/user/bin:/opt/claude:/usr/local/bin:/usr/bin:/bin" }'


def with_program(name: str, script: str) -> str:
    """A task that puts a shell script where `OWN_PROGRAMS` has it found in a program's place."""
    return with_file(name, f"#!/bin/sh\n{script}\n")


def with_file(name: str, text: str) -> str:
    """The same for a whole file."""
    encoded = base64.b64encode(text.encode()).decode()
    install = f"mkdir ~/bin && echo {encoded} | base64 -d >~/bin/{name} && chmod +x ~/bin/{name}"
    return f"[setup]\nrun = [{json.dumps(install)}]\n"


def test_a_hook_that_is_slow_is_waited_for(server: LocalServer, tmp_path: Path) -> None:
    """What was loaded is told before the first message, however late the hook comes to its end."""
    program = 'sleep 1; exec /usr/bin/sha256sum "$@"'
    toml = f'claude_md = {{ text = "New rules." }}\n{OWN_PROGRAMS}'
    story, _ = trial(server, tmp_path, toml, task=with_program("sha256sum", program))

    assert (story.record.outcome, story.record.differences, story.record.notes) == ("passed", (), ())
    assert loaded(story.record) == {"repo/CLAUDE.md": sha("New rules.")}


def test_evidence_costs_no_tokens_and_is_not_shown_to_the_model(server: LocalServer, tmp_path: Path) -> None:
    """What the hooks say is in the stream, and in no request."""
    story, api = trial(server, tmp_path, 'claude_md = { text = "New rules." }\nenv = { A_NAME = "1" }')

    assert story.record.outcome == "passed"
    assert b"harness-evidence" in story.transcript
    asked = json.dumps([request.body for request in api.requests])
    assert not [word for word in ("harness-evidence", "instructions=", "starts=") if word in asked]


def test_a_version_that_does_not_tell_what_hooks_say_is_run_without(
    server: LocalServer, tmp_path: Path
) -> None:
    """It does not know the option; then nothing is proved, and the record says so."""
    old = """
    case "$*" in *--include-hook-events*) echo "error: unknown option '--include-hook-events'" >&2; exit 1 ;; esac
    exec /opt/claude/claude "$@"
    """
    toml = f'claude_md = {{ text = "New rules." }}\n{OWN_PROGRAMS}'
    story, api = trial(server, tmp_path, toml, task=with_program("claude", old))

    assert story.record.outcome == "passed"
    (note,) = story.record.notes
    assert note.startswith("this version of Claude Code does not tell what hooks say")
    assert len(api.requests) == 2


VOID = """
case $1 in doctor) exit 0 ;; esac
echo '{"permissions":{"deny":"Bash"}}' >~/.harness/variant/settings.json; exec /opt/claude/claude "$@"
"""
"""Claude Code with settings that it passes over for a wrong type, hooks and all; its doctor does not say so."""


def test_evidence_that_is_missing_is_no_verdict_on_the_variant(server: LocalServer, tmp_path: Path) -> None:
    """The hooks told nothing: nobody knows what Claude Code started with."""
    toml = f'claude_md = {{ text = "New rules." }}\n{OWN_PROGRAMS}'
    story, _ = trial(server, tmp_path, toml, task=with_program("claude", VOID))

    assert story.record.outcome == "error"
    assert story.record.error
    assert (story.record.error.cause, story.record.error.type) == ("sandbox", "prove")


def test_settings_that_were_not_taken_make_a_trial_invalid(server: LocalServer, tmp_path: Path) -> None:
    """The model has answered, and no hook of theirs has run; a second request is not made."""
    toml = f"settings = {{ includeCoAuthoredBy = false }}\n{OWN_PROGRAMS}"
    story, api = trial(server, tmp_path, toml, task=with_program("claude", VOID))

    assert [reason.partition(":")[0] for reason in invalid(story)] == [
        "Claude Code passed over the variant's settings, hooks included"
    ]
    assert len(api.requests) <= 2


def test_settings_that_claude_code_does_not_take_make_a_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """Its doctor says which value is wrong, before a model is asked."""
    story, api = trial(server, tmp_path, 'settings = { permissions = { deny = "WebFetch" } }')
    (reason,) = invalid(story)
    assert reason.startswith("Claude Code does not take settings as it is: permissions.deny:"), reason
    assert api.requests == []


def test_what_a_hook_that_was_cut_off_leaves_open_is_no_difference(
    server: LocalServer, tmp_path: Path
) -> None:
    """Nobody knows what was loaded: a matter for a new attempt, and no verdict on the variant."""
    toml = f'claude_md = {{ text = "New rules." }}\n{OWN_PROGRAMS}'
    repo: dict[str, str | bytes] = {**REPO, "deeper/CLAUDE.md": "More.\n", "deeper/a.txt": "A\n"}
    script: list[Step] = [Use("Read", {"file_path": "/home/user/repo/deeper/a.txt"}), WRITE, Say("done")]
    story, _ = trial(server, tmp_path, toml, task=with_file("sha256sum", SLOW), repo=repo, script=script)

    assert (story.record.outcome, story.record.differences) == ("error", ())
    assert story.record.error
    assert (story.record.error.cause, story.record.error.type) == ("sandbox", "prove")
    assert "hook that tells of them had not come to its end" in story.record.error.message


# Prompts, settings, the environment, an overlay


def test_prompts_settings_arguments_and_environment_reach_claude_code(
    server: LocalServer, tmp_path: Path
) -> None:
    """The system prompt is the variant's, settings and variables hold, secrets are put in and told to nobody."""
    toml = """
    model = "claude-haiku-4-5"
    system_prompt = "system.md"
    append_system_prompt = { text = "And say please." }
    settings = { env = { FROM_SETTINGS = "yes" } }
    args = ["--disallowedTools", "WebFetch"]
    env = { TOKEN = "x-${env:MY_TOKEN}" }
    """
    script: list[Step] = [
        Use("Bash", {"command": 'echo 42 >answer.txt; echo "$TOKEN $FROM_SETTINGS"'}),
        Say("done"),
    ]
    files: dict[str, str | bytes] = {"system.md": "You are terse."}
    story, api = trial(server, tmp_path, toml, files, script=script, secrets={"MY_TOKEN": "hunter2hunter2"})
    system = json.dumps(api.requests[0].body["system"])
    said = str(api.requests[1].tool_results)

    assert story.record.outcome == "passed"
    assert "You are terse." in system
    assert "And say please." in system
    assert "x-hunter2hunter2 yes" in said
    assert "WebFetch" not in {tool["name"] for tool in api.requests[0].body["tools"]}
    assert api.requests[0].model == story.record.model == "claude-haiku-4-5"
    stored = b"".join(path.read_bytes() for path in story.folder.path.rglob("*") if path.is_file())
    assert b"hunter2hunter2" not in stored
    assert b"x-[redacted:MY_TOKEN] yes" in story.transcript
    assert story.record.asked["env"] == {"TOKEN": "x-${env:MY_TOKEN}"}
    (start,) = story.record.starts
    assert start.files == {
        "system-prompt.md": sha("You are terse."),
        "append-system-prompt.md": sha("And say please."),
    }
    assert start.env == ("TOKEN",)
    assert " --disallowedTools WebFetch " in " ".join(start.arguments)
    assert story.record.notes == ()


def test_each_prompts_start_is_seen_and_a_plain_variant_has_none(server: LocalServer, tmp_path: Path) -> None:
    """Every prompt is a process of its own."""
    task = '[[turns]]\nprompt = "prompt.md"\n[[turns]]\nprompt = "prompt.md"\n'
    toml = (
        'args = ["--add-dir", "/tmp"]\nenv = { ODD = "a b\\n-=c", PATH = "/mine:/opt/claude:/usr/bin:/bin" }'
    )
    story, _ = trial(server, tmp_path, toml, task=task, script=[WRITE, Say("done"), Say("checked")])
    plain, _ = trial(server, tmp_path / "plain")

    assert (story.record.outcome, story.record.differences) == ("passed", ())
    assert [start.env for start in story.record.starts] == [("ODD", "PATH")] * 2
    assert sorted("--resume" in start.arguments for start in story.record.starts) == [False, True]
    assert (plain.record.starts, plain.record.notes) == ((), ())


def test_a_variable_that_settings_replace_makes_a_trial_invalid(server: LocalServer, tmp_path: Path) -> None:
    """The repo's own settings go over the environment that the CLI is started with."""
    settings = json.dumps({"env": {"MAX_THINKING_TOKENS": "1"}})
    repo: dict[str, str | bytes] = {"q.txt": "6 x 7?\n", ".claude/settings.json": settings}
    story, _ = trial(server, tmp_path, 'env = { MAX_THINKING_TOKENS = "16000" }', repo=repo)
    assert invalid(story) == ("MAX_THINKING_TOKENS has another value than asked for",)


WRAPPER = """#!/bin/bash
kept=()
while [ $# -gt 0 ]; do
  case $1 in --add-dir) shift ;; *) kept+=("$1") ;; esac
  shift
done
echo >>~/.harness/variant/system-prompt.md
export TOKEN=other PATH=${PATH#*bin:}
exec /opt/claude/claude "${kept[@]}"
"""


def test_a_program_in_the_clis_place_that_drops_arguments_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """It is the arguments of the process that runs which count, and the files and variables that it had."""
    encoded = base64.b64encode(WRAPPER.encode()).decode()
    install = f"mkdir ~/bin && echo {encoded} | base64 -d >~/bin/claude && chmod +x ~/bin/claude"
    toml = """
    args = ["--add-dir", "/tmp"]
    system_prompt = { text = "Be terse." }
    env = { TOKEN = "asked", PATH = "/home/user/bin:/usr/local/bin:/usr/bin:/bin" }
    """
    story, _ = trial(server, tmp_path, toml, task=f"[setup]\nrun = [{json.dumps(install)}]\n")
    assert [difference.split(" (")[0] for difference in invalid(story)] == [
        "Claude Code was not started with the arguments --add-dir /tmp",
        "system-prompt.md was another",
        "TOKEN has another value than asked for",
        "PATH has another value than asked for",
    ]


def test_what_could_not_be_seen_is_said_and_makes_no_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """A bare session has no hooks; then what the variant asks for is only asked for, and the record says so."""
    toml = 'env = { A_NAME = "1" }\nargs = ["--bare"]'
    story, _ = trial(server, tmp_path, toml, repo={"q.txt": "6 x 7?\n"})
    assert (story.record.outcome, story.record.starts) == ("passed", ())
    (note,) = story.record.notes
    assert note.startswith("how Claude Code was started could not be seen")


@pytest.mark.parametrize(
    "told",
    ["", "arguments", "arguments %%\nfile\nenv A b", "file x y\nenv A b c", "arguments !\nenv A - -\n\0\n"],
)
def test_evidence_that_an_agent_has_made_up_brings_nothing_down(told: str) -> None:
    """Nor does what it left half."""
    starts = tuple(parse_cli_starts(told))
    asked = Variant(args=("--add-dir", "/tmp"), env={"A": "1"}, system_prompt=Text("Be terse."))
    assert unseen_notes(asked, starts)
    start_records(asked, asked.env, starts)
    differences_in_starts(asked, asked.env, starts)


def test_a_variable_that_is_nowhere_counts_only_if_the_process_was_seen() -> None:
    """With the process's arguments its environment was seen, too; without, the hook says nothing of the variable."""
    asked = Variant(env={"A": "1"})
    arguments = base64.b64encode(b"claude\0-p\0").decode()
    seen, unseen = (
        tuple(parse_cli_starts(f"arguments {encoded}\nenv A - -\n")) for encoded in (arguments, "")
    )
    assert differences_in_starts(asked, asked.env, seen) == ("A was not in Claude Code's environment",)
    assert differences_in_starts(asked, asked.env, unseen) == ()
    assert not unseen_notes(asked, seen)
    assert unseen_notes(asked, unseen)


@pytest.mark.parametrize(
    "toml",
    [
        'settings = { outputStyle = "Explanatory" }\nargs = ["--disallowedTools", "WebFetch,Bash(rm *)"]',
        'settings = { permissions = { deny = ["WebFetch", "Bash(rm *)"] } }',
    ],
)
def test_settings_and_arguments_that_took_hold_are_as_asked_for(
    server: LocalServer, tmp_path: Path, toml: str
) -> None:
    """Claude Code tells its output style and the tools that are left; a rule about a tool's input takes none away."""
    script: list[Step] = [Use("Bash", {"command": "echo 42 >answer.txt"}), Say("done")]
    story, _ = trial(server, tmp_path, toml, {}, script=script)
    assert (story.record.outcome, story.record.differences) == ("passed", ())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            Variant(settings={"outputStyle": "Explanatory"}),
            "the output style is 'default', not 'Explanatory'",
        ),
        (Variant(settings={"permissions": {"deny": ["WebFetch"]}}), "the tool 'WebFetch' is offered"),
        (
            Variant(args=("--disallowedTools", "Read", "WebFetch", "--verbose")),
            "the tool 'WebFetch' is offered",
        ),
        (Variant(args=("--disallowed-tools=Read,WebFetch",)), "the tool 'WebFetch' is offered"),
    ],
)
def test_settings_and_arguments_that_did_not_take_hold_are_told(asked: Variant, said: str) -> None:
    """By what the session's start shows."""
    seen = Session(output_style="default", tools_offered=("Bash", "WebFetch"))
    (difference,) = differences_in_init(asked, seen)
    assert difference.startswith(said)


@pytest.mark.parametrize(
    "place", ["repo/skills/greet", "repo/.claude/greet", "home/.claude/skills/mine/greet"]
)
def test_a_skill_where_claude_code_does_not_look_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path, place: str
) -> None:
    """The trial would have measured nothing; it ends long before the agent has."""
    skill = "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n"
    script: list[Step] = [Use("Bash", {"command": "sleep 0.5"}) for _ in range(30)]
    files: dict[str, str | bytes] = {f"over/{place}/SKILL.md": skill}
    story, api = trial(server, tmp_path, 'overlay = "over"', files, script=[*script, Say("done")])

    assert "the overlay's skill 'greet' is not there" in invalid(story)
    assert len(api.requests) < 15


def with_hooks(**commands: str) -> dict[str, str | bytes]:
    hooks = {
        event: [{"hooks": [{"type": "command", "command": command}]}] for event, command in commands.items()
    }
    return {"s.json": json.dumps({"hooks": hooks})}


@pytest.mark.parametrize(
    ("event", "command"),
    [
        ("SessionStart", "~/.claude/hooks/no-such.sh"),
        ("UserPromptSubmit", "python3 $CLAUDE_PROJECT_DIR/no-such.py"),
        ("PreToolUse", "node ~/no-such.mjs"),
    ],
)
def test_a_hook_that_cannot_be_run_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path, event: str, command: str
) -> None:
    """Claude Code goes on without it, and the session would pass for one that had it."""
    script: list[Step] = [Use("Bash", {"command": "echo 42 >answer.txt"}), Say("done")]
    story, _ = trial(server, tmp_path, 'settings = "s.json"', with_hooks(**{event: command}), script=script)
    (difference,) = invalid(story)
    assert difference.startswith(f"the variant's {event} hook could not be run, or failed: ")
    assert "no-such" in difference


def test_a_hook_that_the_agent_takes_away_is_noted(server: LocalServer, tmp_path: Path) -> None:
    """No agent makes its trial invalid; neither does a hook of the repo's own, nor one that only refuses."""
    settings = with_hooks(SessionStart="exit 1", PreToolUse="bash ~/repo/hook.sh", Stop="bash ~/repo/hook.sh")
    own = {"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "no-such-tool"}]}]}}
    repo: dict[str, str | bytes] = {
        "CLAUDE.md": OLD,
        "hook.sh": "true\n",
        ".claude/settings.json": json.dumps(own),
    }
    script: list[Step] = [
        Use("Bash", {"command": "echo 42 >answer.txt; rm hook.sh"}),
        Use("Bash", {"command": "true"}),
        Say("done"),
    ]
    story, _ = trial(server, tmp_path, 'settings = "s.json"', settings, script=script, repo=repo)
    assert (story.record.outcome, story.record.differences) == ("passed", ())
    for event in ("SessionStart", "PreToolUse", "Stop"):
        assert any(f"a {event} hook could not be run, or failed: " in note for note in story.record.notes)


OVERLAY: dict[str, str | bytes] = {
    "over/repo/.claude/skills/greet/SKILL.md": "---\nname: greet\ndescription: Greets.\n---\nSay hello.\n",
    "over/repo/.claude/agents/rev.md": "---\nname: reviewer\ndescription: Reviews.\n---\nReview.\n",
    "over/home/.claude/commands/ship.md": "Ship it.\n",
    "over/home/.claude/CLAUDE.md": "My rules.\n",
    "over/repo/.claude/settings.json": '{"env": {"FROM_OVERLAY": "yes"}}',
}


def test_an_overlay_is_laid_over_repo_and_home(server: LocalServer, tmp_path: Path) -> None:
    """Skills, agents, commands and settings are there, its CLAUDE.md is loaded, and no diff shows it."""
    script: list[Step] = [Use("Bash", {"command": "echo $FROM_OVERLAY; echo 42 >answer.txt"}), Say("done")]
    story, api = trial(server, tmp_path, 'overlay = "over"', OVERLAY, script=script)
    diff = (story.folder.path / str(story.record.diff)).read_text()

    assert story.record.outcome == "passed"
    assert loaded(story.record) == {"repo/CLAUDE.md": sha(OLD), ".claude/CLAUDE.md": sha("My rules.\n")}
    assert "yes" in str(api.requests[1].tool_results)
    assert ".claude" not in diff
    assert story.record.asked["overlay"]["files"] == len(OVERLAY)


def test_an_overlay_that_is_not_taken_up_makes_a_trial_invalid(server: LocalServer, tmp_path: Path) -> None:
    """What it brings is not in the session, which ends with at most its first message under way."""
    story, api = trial(server, tmp_path, 'overlay = "over"\nargs = ["--disable-slash-commands"]', OVERLAY)

    assert "the overlay's skill 'greet' is not there" in invalid(story)
    assert len(api.requests) <= 1


def test_an_overlay_that_does_not_fit_the_repo_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """A folder cannot be laid over a file."""
    story, _ = trial(server, tmp_path, 'overlay = "over"', {"over/repo/question.txt/x": "x"})

    (difference,) = invalid(story)
    assert difference.startswith("what the variant brings could not be laid over the repo: ")


# MCP servers


@pytest.fixture
def http_echo() -> Iterator[str]:
    """The echo server on HTTP, which wants a token; its address on this machine's loopback."""
    with mcp_http.served() as address:
        yield address


ECHO: dict[str, str | bytes] = {"over/home/echo.py": Path(mcp_echo.__file__).read_bytes()}
SAYS: list[Step] = [
    Use("ToolSearch", {"query": "select:mcp__echo__say", "max_results": 5}),
    Use("mcp__echo__say", {"text": "please"}),
    WRITE,
    Say("done"),
]
STDIO = (
    'overlay = "over"\nmcp.echo = { command = "python3", args = ["/home/user/echo.py"], tools = ["say"] }\n'
)


def test_a_server_on_stdio_is_used_and_counted(server: LocalServer, tmp_path: Path) -> None:
    """The record has its state, what it offers, and each tool's calls; the repo's own servers are not there."""
    repo = {**REPO, ".mcp.json": json.dumps({"mcpServers": {"own": {"command": "false"}}})}
    story, api = trial(server, tmp_path, STDIO, ECHO, repo=repo, script=SAYS)

    assert story.record.outcome == "passed"
    assert "please" in str(api.requests[2].tool_results)
    (echo,) = story.record.mcp.values()
    assert (echo.status, echo.offered) == ("connected", ("say",))
    assert (echo.tools["say"].calls, echo.tools["say"].errors) == (1, 0)


def test_a_server_on_http_is_used_with_its_secret(
    server: LocalServer, tmp_path: Path, http_echo: str
) -> None:
    """On this machine's loopback, to which the variant asks for a way."""
    toml = f"""
    network = ["{http_echo}"]
    [v.mcp.echo]
    url = "http://{http_echo}/mcp"
    headers = {{ Authorization = "Bearer ${{env:ECHO_TOKEN}}" }}
    """
    story, api = trial(server, tmp_path, toml, script=SAYS, secrets={"ECHO_TOKEN": mcp_http.TOKEN})

    assert story.record.outcome == "passed"
    assert "please" in str(api.requests[2].tool_results)
    assert story.record.mcp["echo"].tools["say"].calls == 1
    assert mcp_http.TOKEN not in json.dumps(story.record.line())


@pytest.fixture
def gateway(server: LocalServer) -> Iterator[str]:
    """A template with E2B's gateway, and the repository of a server for it."""
    if server.isolation != "namespaces":
        pytest.skip(f"the {server.isolation} tier has no network of the sandbox's own for the gateway")
    name = f"proof-{uuid.uuid4().hex[:8]}"
    written = base64.b64encode(Path(mcp_echo.__file__).read_bytes()).decode()
    script = f"mkdir -p repos/me/echo && cd repos/me/echo && echo {written} | base64 -d >server.py"
    commit = "git init -q && git add . && git -c user.name=me -c user.email=me@here commit -qm x"
    template = Template().from_template("mcp-gateway").run_cmd(f"{script} && {commit}")
    template = template.run_cmd(
        "chown -R root: /home/user/repos", user="root"
    )  # git clones nobody else's repository
    Template.build(template, name, api_key=server.api_key, api_url=server.url)
    yield name
    httpx.delete(f"{server.url}/templates/{name}", headers={"X-API-KEY": server.api_key}).raise_for_status()


def test_e2bs_gateway_is_used_and_counted(server: LocalServer, tmp_path: Path, gateway: str) -> None:
    """Its servers' tools are those of one server, which lets in who has its token; nobody is told that."""
    toml = f"""
    template = "{gateway}"
    env.GIT_CONFIG_COUNT = "1"
    env.GIT_CONFIG_KEY_0 = "url.file:///home/user/repos/.insteadOf"
    env.GIT_CONFIG_VALUE_0 = "https://github.com/"
    [v.mcp_gateway."github/me/echo"]
    runCmd = "python3 server.py"
    """
    script: list[Step] = [
        Use("ToolSearch", {"query": "select:mcp__e2b-mcp-gateway__say", "max_results": 5}),
        Use("mcp__e2b-mcp-gateway__say", {"text": "please"}),
        Use("Bash", {"command": "cat ~/.harness/variant/mcp.json; echo 42 >answer.txt"}),
        Say("done"),
    ]
    story, api = trial(server, tmp_path, toml, script=script)

    assert story.record.outcome == "passed"
    assert b"Bearer [redacted:MCP_GATEWAY_TOKEN]" in story.transcript
    assert "please" in str(api.requests[2].tool_results)
    (served,) = story.record.mcp.items()
    assert (served[0], served[1].status, served[1].offered) == ("e2b-mcp-gateway", "connected", ("say",))
    assert served[1].tools["say"].calls == 1
    assert story.record.template == gateway
    assert b"Bearer [redacted:" in story.transcript


@pytest.mark.parametrize(
    ("toml", "difference"),
    [
        ('mcp.dead = { command = "false" }', "the MCP server 'dead' is failed, not connected"),
        ('mcp.none = { command = "no-such-program" }', "the MCP server 'none' is failed, not connected"),
        ('mcp.far = { url = "http://127.0.0.1:9/mcp" }', "the MCP server 'far' is failed, not connected"),
        (
            'env.MCP_TIMEOUT = "500"\nmcp.mute = { command = "sleep", args = ["99"] }',
            "the MCP server 'mute' is failed, not connected",
        ),
        (STDIO.replace('["say"]', '["say", "sing"]'), "the MCP server 'echo' does not offer 'sing'"),
    ],
    ids=["dies", "no program", "refused", "silent", "tool missing"],
)
def test_a_server_that_is_not_there_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path, toml: str, difference: str
) -> None:
    """Before the model has answered anything: the trial is ended at its start, whatever the CLI has asked by then."""
    story, api = trial(server, tmp_path, toml, ECHO, script=[Forever(Hang())])

    (told,) = invalid(story)
    assert told.startswith(difference)
    assert (story.record.stop, api.served) == (None, {})


def test_a_server_that_keeps_the_session_from_starting_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path
) -> None:
    """One that floods Claude Code holds it up for ever; that is no failure of the agent's."""
    story, api = trial(server, tmp_path, 'mcp.loud = { command = "yes" }', task="timeout = 6\n")

    assert (
        invalid(story)[0] == "the session had not started when the time was up, waiting for its MCP servers"
    )
    assert (story.record.stop, api.requests) == ("timeout", [])


def test_a_servers_wrong_secret_makes_a_trial_invalid(
    server: LocalServer, tmp_path: Path, http_echo: str
) -> None:
    """It is there, and lets nobody in."""
    toml = f'network = ["{http_echo}"]\nmcp.echo = {{ url = "http://{http_echo}/mcp" }}'
    story, _ = trial(server, tmp_path, toml)

    (difference,) = invalid(story)
    assert difference.startswith("the MCP server 'echo' is ")


def test_no_servers_means_none(server: LocalServer, tmp_path: Path) -> None:
    """The repo's own are not started."""
    repo = {**REPO, ".mcp.json": json.dumps({"mcpServers": {"own": {"command": "false"}}})}
    story, _ = trial(server, tmp_path, "mcp = {}", repo=repo)

    assert (story.record.outcome, story.record.mcp) == ("passed", {})


def test_another_model_than_asked_for_is_told() -> None:
    """An alias stands for any version of it, a name for any date and window of it."""

    def told(asked: str, seen: str) -> tuple[str, ...]:
        return differences_in_init(Variant("v", model=asked), Session(model=seen))

    assert told("claude-opus-4-5", "claude-haiku-4-5") == (
        "the model is claude-haiku-4-5, not claude-opus-4-5",
    )
    assert told("opus", "claude-haiku-4-5") == ("the model is claude-haiku-4-5, not opus",)
    for asked, seen in (
        ("opus", "claude-opus-5-5"),
        ("opus[1m]", "claude-opus-5-5"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("opusplan", "claude-sonnet-4-5"),
    ):
        assert told(asked, seen) == ()


def test_a_record_tells_the_template_that_was_asked_for_and_the_one_that_came(
    server: LocalServer, tmp_path: Path
) -> None:
    """By the name and by the platform's own id."""
    story, _ = trial(server, tmp_path, 'template = "claude"')

    assert (story.record.asked["template"], story.record.template) == ("claude", "claude")
    assert story.record.sandbox.template_id


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="this machine has no npm")
def test_a_server_from_npm_is_used(server: LocalServer, tmp_path: Path) -> None:
    """A published server, brought by an overlay; a call that it refuses is counted as an error."""
    tools = tmp_path / "over" / "home" / "tools"
    tools.mkdir(parents=True)
    install = [
        "npm",
        "install",
        "--silent",
        "--prefix",
        str(tools),
        "@modelcontextprotocol/server-filesystem",
    ]
    subprocess.run(install, check=True, timeout=200)
    toml = """
    overlay = "over"
    [v.mcp.files]
    command = "/home/user/tools/node_modules/.bin/mcp-server-filesystem"
    args = ["/home/user/repo"]
    tools = ["read_text_file", "write_file"]
    """
    script: list[Step] = [
        Use(
            "ToolSearch",
            {"query": "select:mcp__files__write_file,mcp__files__read_text_file", "max_results": 5},
        ),
        Use("mcp__files__write_file", {"path": "/home/user/repo/answer.txt", "content": "42\n"}),
        Use("mcp__files__read_text_file", {"path": "/etc/passwd"}),
        Say("done"),
    ]
    story, _ = trial(server, tmp_path, toml, script=script)
    used = story.record.mcp["files"].tools

    assert story.record.outcome == "passed"
    assert (used["write_file"].calls, used["write_file"].errors) == (1, 0)
    assert (used["read_text_file"].calls, used["read_text_file"].errors) == (1, 1)


# What the hook told of CLAUDE.md, without a sandbox


NEW = ClaudeMd("New rules.")
OURS = Variant("v", claude_md=NEW)


def entry(path: str, text: str) -> InstructionsRecord:
    """A file that Claude Code told of, with what it said."""
    return InstructionsRecord(path=path, memory_type="Project", load_reason="session_start", sha256=sha(text))


def test_a_variants_claude_md_is_demanded_without_the_note_about_it() -> None:
    """The note lies in the sandbox, where an agent can do away with it: then what the variant says must be there."""
    gone = Instructions({}, ())
    assert differences_in_instructions(OURS, gone) == (
        "repo/CLAUDE.md was put there, and Claude Code did not load it",
    )
    (other,) = differences_in_instructions(OURS, Instructions({}, (entry("repo/CLAUDE.md", OLD),)))
    assert other.startswith(
        f"Claude Code loaded another repo/CLAUDE.md (sha256 {sha(OLD)[:12]}) than was put"
    )
    assert other.endswith(f"there ({sha('New rules.')[:12]})")
    assert differences_in_instructions(OURS, Instructions({}, (entry("repo/CLAUDE.md", "New rules."),))) == ()


def test_where_the_note_is_it_counts() -> None:
    """A CLAUDE.md that goes on after the repo's own has another hash than the variant's text, and another place."""
    appended = Instructions(
        {"repo/.claude/CLAUDE.md": sha("both")}, (entry("repo/.claude/CLAUDE.md", "both"),)
    )
    assert differences_in_instructions(OURS, appended) == ()
    mine = Instructions({"repo/CLAUDE.md": sha("both")}, (entry("repo/CLAUDE.md", "New rules."),))
    assert len(differences_in_instructions(OURS, mine)) == 1


@pytest.mark.parametrize("claude_md", [NEW, Removed()], ids=["put there", "taken away"])
def test_what_a_hook_that_was_cut_off_leaves_open_is_tried_again(claude_md: ClaudeMd | Removed) -> None:
    """In a fresh sandbox the hook may come to its end; every other trial may as well."""
    told = Instructions({}, (entry("repo/deeper/CLAUDE.md", "More."),), cut_off=True)
    with pytest.raises(SandboxFault, match="had not come to its end") as caught:
        differences_in_instructions(Variant("v", claude_md=claude_md), told)
    assert (caught.value.kind, caught.value.retry, caught.value.fatal) == ("prove", True, False)


def test_what_was_told_before_a_hook_was_cut_off_decides() -> None:
    """Nothing is open then: the variant's CLAUDE.md was loaded, or another, or the one that was to be gone."""
    for asked, text, differences in ((NEW, "New rules.", 0), (NEW, OLD, 1), (Removed(), OLD, 1)):
        told = Instructions({}, (entry("repo/CLAUDE.md", text),), cut_off=True)
        assert len(differences_in_instructions(Variant("v", claude_md=asked), told)) == differences
        assert len(missing_evidence_notes(told)) == 1
    assert missing_evidence_notes(Instructions({}, ())) == ()


def test_a_plain_variant_demands_no_claude_md() -> None:
    """Whatever a hook told, or did not come to tell."""
    for cut_off in (False, True):
        told = Instructions({}, (entry("repo/CLAUDE.md", OLD),), cut_off=cut_off)
        assert differences_in_instructions(Variant("v"), told) == ()
    assert (len(untold_notes(OURS)), untold_notes(Variant("v"))) == (1, ())
