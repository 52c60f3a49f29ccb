"""The model itself: a decoder written out, its sizes, its tokenizer, and checkpoints that other programs open.

Importing this package costs nothing; `decoder`, `tokenizer` and `checkpoint` bring torch and transformers with them.
"""
