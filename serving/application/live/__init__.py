"""Use case: a conversation in speech, live. One thread a stage, bounded queues between them.

`Ears` find out who speaks when, the `Scribe` writes down what was said, while it is still being said, the `Thinker` has it
answered by the engine, the `Mouth` speaks the answer sentence by sentence, and `Converse` holds them together.
"""
