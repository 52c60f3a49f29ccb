"""Paged KV memory: who owns which block, and which blocks already hold a prefix that somebody asks for again.

The pool hands out block *numbers*; the tensors behind them live with the backend. Every block is in exactly one state:

    free    never written, or its content was given up
    used    in at least one sequence's table (shared prefixes are counted, not copied)
    cached  in no table, but its content is kept until the block is needed for something else

so `free + used + cached == total` always. Only *full* blocks are shared, hence nothing is ever copied on write.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b


class BlockChain:
    """The full blocks of one token list as a chain of digests: equal digests mean equal tokens *and* equal history.

    `tokens` is a live reference and may grow (never shrink). `namespace` holds what must match besides tokens: the
    tenant, an adapter. It comes from the server, never from a request's body (CVE-2025-46570). `media` are (position,
    content hash) of images and sounds, whose placeholder tokens are all alike: a block is the same only with the same media,
    and blocks before the first one are shared as those of any text.
    """

    __slots__ = ("tokens", "block_size", "_media", "_digests", "_root")

    def __init__(
        self,
        tokens: list[int],
        namespace: Sequence[str],
        block_size: int,
        media: Sequence[tuple[int, str]] = (),
    ) -> None:
        self.tokens = tokens
        self.block_size = block_size
        self._media: dict[int, list[str]] = {}
        for position, content in sorted(media):
            self._media.setdefault(position // block_size, []).append(f"{position}:{content}")
        self._digests: list[bytes] = []
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        self._root = blake2b("".join(f"{len(part)}:{part}" for part in namespace).encode(), digest_size=16).digest()

    def block(self, index: int) -> tuple[int | str, ...]:
        """What has to be equal for a block to be equal: its tokens, and the media that begin in it."""
        tokens = self.tokens[index * self.block_size : (index + 1) * self.block_size]
        return (*tokens, *self._media.get(index, ()))

    def parent(self, index: int) -> bytes:
        return self.digest(index - 1) if index else self._root

    def digest(self, index: int) -> bytes:
        while len(self._digests) <= index:
            index = len(self._digests)
            parent = self._digests[-1] if index else self._root
            tokens = array("q", self.tokens[index * self.block_size : (index + 1) * self.block_size]).tobytes()
            media = "".join(self._media.get(index, ())).encode()
            self._digests.append(blake2b(parent + tokens + media, digest_size=16).digest())
        return self._digests[index]


@dataclass(frozen=True, slots=True)
class BlockMap:
    """A snapshot of a pool: how many tables each block is in, which free ones keep their content, and the tables by id."""

    references: tuple[int, ...]
    cached: tuple[int, ...]
    tables: dict[str, tuple[int, ...]]


@dataclass(slots=True)
class _Table:
    chain: BlockChain
    blocks: list[int] = field(default_factory=list)
    sealed: int = 0  # leading blocks already offered to the prefix cache


@dataclass(frozen=True, slots=True)
class _Content:
    digest: bytes
    parent: bytes
    block: tuple[int | str, ...]


class BlockPool:
    """Block tables by sequence id, reference counts, and a least-recently-used prefix cache. All operations are O(blocks touched)."""

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        prefix_caching: bool = True,
        on_close: Callable[[str], None] | None = None,
    ) -> None:
        self.total = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._on_close = on_close
        self._free = list(range(num_blocks - 1, -1, -1))
        self._references = [0] * num_blocks
        # An OrderedDict is a doubly linked list with an index: O(1) append, removal from the middle, pop of the oldest.
        self._cached: OrderedDict[int, None] = OrderedDict()
        self._contents: dict[int, _Content] = {}
        self._index: dict[bytes, int] = {}
        self._tables: dict[str, _Table] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def used(self) -> int:
        return self.total - self.free - self.cached

    @property
    def available(self) -> int:
        """Blocks that an allocation may take: the free ones, then the cached ones."""
        return len(self._free) + len(self._cached)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def table(self, sequence_id: str) -> list[int]:
        """Block numbers in position order. Read only: the list belongs to the pool."""
        return self._tables[sequence_id].blocks

    def map(self) -> BlockMap:
        """Every block at once; O(blocks), so for people rather than for policies."""
        tables = {name: tuple(table.blocks) for name, table in self._tables.items()}
        return BlockMap(tuple(self._references), tuple(self._cached), tables)

    def shared(self, sequence_id: str) -> int:
        """How many leading blocks of a table are in another one, too."""
        count = 0
        for block in self._tables[sequence_id].blocks:
            if self._references[block] < 2:
                break
            count += 1
        return count

    def match(self, chain: BlockChain) -> list[int]:
        """Blocks that hold the longest cached prefix of `chain`, without taking them.

        The last token is always left out: somebody has to compute it to get the logits that follow it.
        """
        blocks: list[int] = []
        if not self.prefix_caching:
            return blocks
        for index in range((len(chain.tokens) - 1) // self.block_size):
            block = self._index.get(chain.digest(index))
            if block is None or not self._holds(block, chain, index):
                break
            blocks.append(block)
        return blocks

    def hint(self, chain: BlockChain) -> tuple[int, int]:
        """(cached prefix in tokens, how many of its blocks are in use anyway and so cost no memory)."""
        blocks = self.match(chain)
        return len(blocks) * self.block_size, sum(1 for block in blocks if self._references[block])

    def open(self, sequence_id: str, chain: BlockChain) -> int:
        """Start a table with whatever the prefix cache has; returns that many tokens."""
        if sequence_id in self._tables:
            raise ValueError(f'sequence "{sequence_id}" has a table already')
        blocks = self.match(chain)
        for block in blocks:
            if not self._references[block]:
                del self._cached[block]
            self._references[block] += 1
        self._tables[sequence_id] = _Table(chain, blocks, sealed=len(blocks))
        return len(blocks) * self.block_size

    def grow(self, sequence_id: str, num_tokens: int) -> bool:
        """Make the table cover `num_tokens` positions. False, and nothing changed, when the pool cannot."""
        table = self._tables[sequence_id]
        missing = self.blocks_for(num_tokens) - len(table.blocks)
        if missing > self.available:
            return False
        table.blocks.extend(self._take() for _ in range(missing))
        return True

    def trim(self, sequence_id: str, num_tokens: int) -> None:
        """Give back the tail of a table beyond `num_tokens` positions; nothing in it may have been committed."""
        blocks = self._tables[sequence_id].blocks
        while len(blocks) > self.blocks_for(num_tokens):
            block = blocks.pop()
            self._references[block] = 0
            self._free.append(block)

    def commit(self, sequence_id: str, computed: int) -> None:
        """Offer the blocks that are full now that `computed` tokens have their keys and values to the prefix cache."""
        if not self.prefix_caching:
            return
        table = self._tables[sequence_id]
        for index in range(table.sealed, computed // self.block_size):
            digest = table.chain.digest(index)
            if digest not in self._index:  # else another sequence computed the same block at the same time
                block = table.blocks[index]
                self._index[digest] = block
                self._contents[block] = _Content(digest, table.chain.parent(index), table.chain.block(index))
            table.sealed = index + 1

    def close(self, sequence_id: str) -> None:
        """Give a table's blocks back, tail first: the head of a prefix is the last to be forgotten. Tells `on_close`."""
        for block in reversed(self._tables.pop(sequence_id).blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            if block in self._contents:
                self._cached[block] = None
            else:
                self._free.append(block)
        if self._on_close is not None:
            self._on_close(sequence_id)

    def forget(self) -> None:
        """Drop the prefix cache, for example because the weights changed. Tables stay, but are shared no more."""
        self._free.extend(self._cached)
        self._cached.clear()
        self._index.clear()
        self._contents.clear()

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            del self._index[self._contents.pop(block).digest]
        self._references[block] = 1
        return block

    def _holds(self, block: int, chain: BlockChain, index: int) -> bool:
        content = self._contents[block]
        return content.block == chain.block(index) and content.parent == chain.parent(index)
