"""What clients send, as pydantic models: strict types, no unknown fields, and the sentences of the OpenAPI document."""
