"""How families of models write tool calls, told from their chat templates. Data: a new family is one more line."""

from __future__ import annotations

from serving.domain.grammar import ToolCallForm

COMPACT = ToolCallForm("<tool_call>", "</tool_call>")
"""Our own models, and whoever was never taught: everything on one line."""
FORMS = {
    # Hermes, Qwen2.5, Qwen3: markers on lines of their own
    "<tool_call>\\n{": ToolCallForm(
        "<tool_call>", "</tool_call>", before_name='\n{"name": ', after_arguments="}\n", between="\n"
    ),
}
"""By a piece of the template that writes an assistant's calls."""


def form_of(chat_template: str | None) -> ToolCallForm:
    """The form whose piece the template has."""
    return next((form for piece, form in FORMS.items() if piece in (chat_template or "")), COMPACT)
