"""What the text of an answer must look like: `response_format` as in OpenAI's API, `structured_outputs` as in vLLM's."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from serving.domain.grammar import Grammar
from serving.presentation.schemas.base import Wire, refusal

ANY_OBJECT = '{"type": "object"}'
MOST_CHOICES = 1000
Schema = dict[str, Any] | bool
"""A JSON schema. What its keywords mean is checked when it is compiled, with the model's tokenizer."""
NotEmpty = Annotated[str, Field(min_length=1, pattern=r"\S")]


def of_schema(schema: Schema, param: str) -> Grammar:
    """All texts that satisfy a JSON schema; `param` is to blame when it cannot be compiled."""
    return Grammar("json_schema", json.dumps(schema), param)


class PlainText(Wire):
    type: Literal["text"]

    def grammar(self, param: str) -> Grammar | None:
        """Any text will do."""
        return None


class JsonObject(Wire):
    type: Literal["json_object"]

    def grammar(self, param: str) -> Grammar:
        """Any JSON object."""
        return Grammar("json_schema", ANY_OBJECT, f"{param}.type")


class NamedSchema(Wire):
    """A JSON schema that every answer satisfies to the letter, whatever `strict` says."""

    name: str
    description: str | None = None
    strict: bool | None = None
    json_schema: Schema = Field(alias="schema")


class JsonSchemaFormat(Wire):
    type: Literal["json_schema"]
    json_schema: NamedSchema

    def grammar(self, param: str) -> Grammar:
        """What satisfies the schema."""
        return of_schema(self.json_schema.json_schema, f"{param}.json_schema.schema")


ResponseFormat = Annotated[PlainText | JsonObject | JsonSchemaFormat, Field(discriminator="type")]


class StructuredOutputs(Wire):
    """Exactly one of these. An extension, with vLLM's names."""

    schema_: Schema | str | None = Field(default=None, alias="json")
    """A JSON schema, or its text."""
    json_object: Literal[True] | None = None
    """Any JSON object."""
    regex: NotEmpty | None = None
    """A regular expression for the whole answer."""
    choice: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)] | None = None
    """One of these texts."""
    grammar: NotEmpty | None = None
    """A grammar in Lark's notation or in GBNF."""

    @model_validator(mode="after")
    def _one(self) -> StructuredOutputs:
        if len(self.model_fields_set) != 1:
            raise refusal("{param} takes exactly one of json, json_object, regex, choice, grammar")
        if isinstance(self.schema_, str):
            try:
                parsed = json.loads(self.schema_)
            except (ValueError, RecursionError):
                parsed = None
            if not isinstance(parsed, dict | bool):
                raise refusal("{param} must be a JSON schema, or its text", "json")
        return self

    def compiled(self, param: str) -> Grammar:
        """What may be answered."""
        (name,) = self.model_fields_set
        if name == "schema_":
            schema = json.loads(self.schema_) if isinstance(self.schema_, str) else self.schema_
            return of_schema(schema, f"{param}.json")
        if name == "json_object":
            return Grammar("json_schema", ANY_OBJECT, f"{param}.json_object")
        text = json.dumps(self.choice) if name == "choice" else getattr(self, name)
        return Grammar(name, text, f"{param}.{name}")


class StructuredFields(Wire):
    """Inherited by what generates text."""

    response_format: ResponseFormat | None = None
    """Free text, a JSON object, or what satisfies a JSON schema."""
    structured_outputs: StructuredOutputs | None = None
    """A regular expression, one of several texts, a grammar, or a JSON schema. An extension."""

    @model_validator(mode="after")
    def _one_grammar(self) -> StructuredFields:
        if self.structured_outputs is not None and self.response_format_grammar() is not None:
            raise refusal('"response_format" and {param} contradict each other: send one of them', "structured_outputs")
        return self

    def response_format_grammar(self) -> Grammar | None:
        return None if self.response_format is None else self.response_format.grammar("response_format")

    def grammar(self) -> Grammar | None:
        """What the text of the answer must look like; None: anything."""
        if self.structured_outputs is not None:
            return self.structured_outputs.compiled("structured_outputs")
        return self.response_format_grammar()
