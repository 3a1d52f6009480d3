"""``fastspan push``: a bundle to a repository on the hub."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from fastspan.cli.arguments import FOLDERS, completed_with, json_option
from fastspan.cli.parsing import CommandParser
from fastspan.cli.terminal import Style, harmless, megabytes, one_line, table, write, write_json

if TYPE_CHECKING:
    from fastspan.export.hub.push import Pushed, PushPlan

NAME = "push"
HELP = "publish a bundle on the hub, with a model card"
EXAMPLES = (
    "fastspan push models/exported/minilm-l6-squad2 me/minilm-l6-squad2 --dry-run",
    "fastspan push bert-squad2 my-team/bert-squad2-onnx --private --revision v2",
)


def parents() -> list[CommandParser]:
    """Return the parser of the argument that ``fastspan push`` shares with other commands."""
    return [json_option()]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the bundle, the repository, and how it is published."""
    bundle = parser.add_argument("bundle", metavar="BUNDLE", help="the folder that fastspan export wrote")
    completed_with(bundle, FOLDERS)
    parser.add_argument("repository", metavar="REPO", help="the repository's id, owner/name")
    parser.add_argument(
        "--private", action="store_true", help="make the repository private; refuse one that is public"
    )
    parser.add_argument("--dry-run", action="store_true", help="show card and files, and send nothing")
    parser.add_argument(
        "--revision", metavar="R", help="the branch to commit to, made if it is not there (default: main)"
    )


def run(arguments: Namespace) -> int:
    """Publish the bundle in one commit, or show what would be."""
    from fastspan.export.hub.push import plan_push, push

    plan = plan_push(arguments.bundle, arguments.repository)
    pushed = None
    if not arguments.dry_run:
        pushed = push(
            plan,
            private=arguments.private,
            revision=arguments.revision,
            say=_say,
            bars=sys.stderr.isatty(),
        )
    if arguments.json:
        write_json(_as_json(plan, pushed), indent=2)
        return 0
    if pushed is None:
        _show(plan)
    else:
        _tell(plan, pushed)
    for note in plan.notes:
        _say(f"note: {one_line(note)}")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _show(plan: PushPlan) -> None:
    style = Style(sys.stdout)
    write(harmless(plan.card))
    write(table(("file", "size"), [(path, megabytes(size)) for path, size in plan.files.items()], style))
    write()
    write(f"{len(plan.files)} files, {megabytes(plan.bytes)}, for {plan.repository}. Nothing was sent.")


def _tell(plan: PushPlan, pushed: Pushed) -> None:
    if not pushed.changed:
        write(f"{pushed.url} held all of it already, at commit {pushed.commit}")
    else:
        removed = f"; removed of the former bundle: {', '.join(pushed.removed)}" if pushed.removed else ""
        write(f"{pushed.url} holds the bundle at commit {pushed.commit}{one_line(removed)}")
    write(f'  QuestionAnswerer.load("{plan.repository}", revision="{pushed.commit}")')


def _as_json(plan: PushPlan, pushed: Pushed | None) -> dict[str, Any]:
    return {
        "repository": plan.repository,
        "files": plan.files,
        "bytes": plan.bytes,
        "card": plan.card,
        "notes": list(plan.notes),
        "url": pushed and pushed.url,
        "commit": pushed and pushed.commit,
        "changed": pushed is not None and pushed.changed,
        "removed": list(pushed.removed) if pushed else [],
    }
