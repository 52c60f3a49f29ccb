"""Use case: answer a conversation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

from serving.application.generation import Generation, Options, admit
from serving.application.ports import ServedModel
from serving.application.rendering import RenderChat
from serving.application.speech import NativeSpeech
from serving.application.thoughts import BEGIN
from serving.domain.errors import Conflict
from serving.domain.grammar import Constraint, Tool, ToolCallForm, ToolGrammar

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class GenerateChat:
    """A conversation in, one answer per choice out. `options.grammar` is what the answer must look like where it is no call."""

    prompt: RenderChat
    """Calls of its tools always satisfy their schemas."""
    forced: str | None = None
    """The answer must call this tool; "" for any of them, None for none of them."""
    parallel: bool = True
    """Several calls in one answer; a tool that is named is called once."""
    options: Options = field(default_factory=Options)
    tenant: str = "default"
    heard_by: NativeSpeech | None = None
    """Whose sound is in the prompt: no other model understands it."""
    aloud: bool = False
    """The model that heard it says its answer itself."""
    prompt_param: str = "messages"
    """What the client calls the conversation."""

    def start(self, model: ServedModel, kind: str = "chatcmpl") -> Generation:
        """Render the template, check the limits, queue.

        Raises `InvalidRequest`, `Conflict` for a model that heard nothing of it, and what `EnginePort.submit` raises.
        """
        if self.heard_by is not None and model.speech is not self.heard_by:
            raise Conflict("the model was replaced while it listened: send the request again", param="model")
        aloud = self.aloud and self.heard_by is not None
        options = self._constrained(model.tokenizer.tool_call_form)
        if model.speech is not None and not aloud and not options.ignore_eos:
            options = replace(options, stop_token_ids=options.stop_token_ids | {model.speech.begin})
        text = self.prompt.text(model)
        return admit(
            kind,
            model,
            [self.prompt.read(model, text)],
            options,
            tenant=self.tenant,
            parse_tools=bool(self.prompt.tools),
            parse_thoughts=True,
            thinking=self._begins_thinking(text, options.grammar),
            default_max_tokens=DEFAULT_MAX_TOKENS,
            prompt_param=self.prompt_param,
            sounds=model.speech.tokens if aloud else range(0),
        )

    def _begins_thinking(self, text: str, grammar: Constraint | None) -> bool:
        """Whether the template has begun a thought, which an answer that is held to a grammar could not end."""
        free = grammar is None or (isinstance(grammar, ToolGrammar) and not grammar.forced and grammar.answer is None)
        answers = self.prompt.add_generation_prompt or self.prompt.continue_final_message
        return free and answers and text.rstrip().endswith(BEGIN)

    def _constrained(self, form: ToolCallForm) -> Options:
        """The options with a grammar for the calls. Who ignores the end of a text gets no grammar that has one."""
        answer = self.options.grammar
        if not self.prompt.tools or (self.options.ignore_eos and self.forced is None and answer is None):
            return self.options
        tools = tuple(
            Tool(tool["function"]["name"], json.dumps(tool["function"]["parameters"]), f"tools[{at}].function.parameters")
            for at, tool in enumerate(self.prompt.tools)
            if self.forced in (None, "", tool["function"]["name"])
        )
        grammar = ToolGrammar(tools, form, self.forced is not None, self.parallel and not self.forced, answer)
        return replace(self.options, grammar=grammar)
