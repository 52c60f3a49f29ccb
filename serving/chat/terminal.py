"""What a person types and sees. Answers go to stdout, everything else to stderr, so that both can be piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lifecycle.errors import LifecycleError
from serving.chat.attachments import part_of
from serving.chat.client import Refused
from serving.chat.conversation import Called, Conversation
from serving.chat.tools import LocalTools

HELP = """\
/model [NAME]     which models there are, or answer with another one from now on
/system [TEXT]    what the system prompt is, or another one ("-" for none)
/tools [FILE.py]  which functions the model may call, or those of another file ("-" for none)
/attach FILE      show a picture or a clip with what is said next; several times for several
/reset            forget what was said
/save FILE.jsonl  append the conversation, in the form that lifecycle sft --data reads
/help, /quit      Ctrl-C stops an answer, Ctrl-D leaves"""


class Terminal:
    """Reads lines until the end of input or /quit."""

    def __init__(self, conversation: Conversation) -> None:
        self._talk = conversation
        self._commands: dict[str, Callable[[str], None]] = {
            "/model": self._model,
            "/system": self._system,
            "/tools": self._tools,
            "/attach": self._attach,
            "/reset": self._reset,
            "/save": self._save,
            "/help": lambda _: note(HELP),
        }

    def run(self) -> None:
        """Returns when the person leaves."""
        interactive = sys.stdin.isatty()
        if interactive:
            import readline  # noqa: F401 (input() edits lines and remembers them with it)

            note(f"{self._talk.model} listens; /help lists commands, Ctrl-D leaves")
        while (line := self._read(interactive)) is not None:
            if line == "/quit":
                return
            try:
                self.take(line)
            except KeyboardInterrupt:
                click.echo()
                note("stopped")

    def take(self, line: str) -> None:
        """One line: a command, or something to say. KeyboardInterrupt stops what it began."""
        word, _, rest = line.partition(" ")
        if not line.strip():
            return
        try:
            if word in self._commands:
                self._commands[word](rest.strip())
            elif word.startswith("/"):
                note(f"there is no command {word}: choose one of {', '.join(self._commands)}, /quit")
            else:
                self._say(line)
        except (Refused, LifecycleError) as error:
            note(str(error))

    def _read(self, interactive: bool) -> str | None:
        try:
            if interactive:
                return input("> ").strip()
            line = sys.stdin.readline()
            return line.strip() if line else None
        except KeyboardInterrupt:
            click.echo()
            return ""
        except EOFError:
            click.echo()
            return None

    def _say(self, text: str) -> None:
        aside = Aside()
        write, show_call = aside.ended(lambda piece: click.echo(piece, nl=False)), aside.ended(self._show_call)
        reason = self._talk.ask(text, write, show_call, aside.think)
        aside.end()
        click.echo()
        if reason == "length":
            note("cut off: the answer reached its most tokens")

    @staticmethod
    def _show_call(call: Called) -> None:
        note(f"{call.name}({call.arguments}) -> {call.result}")

    def _model(self, name: str) -> None:
        if name:
            self._talk.model = self._talk.client.model(name)
        for known in self._talk.client.models():
            note(("* " if known == self._talk.model else "  ") + known)

    def _system(self, text: str) -> None:
        if text:
            self._talk.system = "" if text == "-" else text
        note(self._talk.system or "no system prompt")

    def _tools(self, file: str) -> None:
        if file:
            self._talk.tools = LocalTools() if file == "-" else LocalTools.load(Path(file).expanduser())
        for schema in self._talk.tools.schemas:
            function = schema["function"]
            note(f"{function['name']}({', '.join(function['parameters']['properties'])}): {function['description']}")
        if not self._talk.tools.schemas:
            note("no tools")

    def _reset(self, _: str) -> None:
        self._talk.messages.clear()
        self._talk.attached.clear()
        note("forgotten")

    def _attach(self, file: str) -> None:
        if file:
            self._talk.attached.append(part_of(Path(file).expanduser()))
        note(f"{len(self._talk.attached)} attached to what is said next")

    def _save(self, file: str) -> None:
        if not file:
            return note("say where: /save FILE.jsonl")
        if any(isinstance(message["content"], list) for message in self._talk.messages):
            return note("not saved: lifecycle sft reads conversations without pictures only")
        saved = {"messages": self._talk.everything()}
        if self._talk.tools.schemas:
            saved["tools"] = list(self._talk.tools.schemas)
        try:
            with Path(file).expanduser().open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(saved, ensure_ascii=False) + "\n")
        except OSError as error:
            return note(f"cannot save to {file}: {error.strerror}")
        note(f"{len(self._talk.messages)} messages appended to {file}")


class Aside:
    """What is thought before an answer, beside it, on lines of its own."""

    def __init__(self) -> None:
        self._begun = False

    def think(self, text: str) -> None:
        """More of it."""
        click.secho(text, err=True, dim=True, nl=False)
        self._begun = True

    def end(self) -> None:
        """Something else follows."""
        if self._begun:
            click.echo(err=True)
        self._begun = False

    def ended(self, do: Callable[[Any], None]) -> Callable[[Any], None]:
        """`do`, once this has ended."""

        def then(what: Any) -> None:
            self.end()
            do(what)

        return then


def note(text: str) -> None:
    """Something that is no answer."""
    click.secho(text, err=True, dim=True)
