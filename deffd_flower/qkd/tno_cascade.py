"""The parts of TNO's Cascade that `cascade` refines. Importing this imports TNO's package."""

import numpy as np
from numpy.typing import NDArray
from tno.quantum.communication.qkd_key_rate.classical import (
    Message,
    ParityStrategy,
    Permutations,
)
from tno.quantum.communication.qkd_key_rate.classical.cascade import (
    CascadeReceiver,
    CascadeSender,
)

__all__ = ["Answerer", "BlockSizes", "Corrector", "Permutations"]

Bits = NDArray[np.uint8]


class BlockSizes(ParityStrategy):
    """A parity strategy with one given block size per pass."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(error_rate=0.0, number_of_passes=len(sizes))
        self._sizes = sizes

    def calculate_message_parity_strategy(self, message_size: int) -> tuple[tuple[int, int], ...]:
        """Return block size and number of blocks of each pass."""
        return tuple((size, -(-message_size // size)) for size in self._sizes)


class Answerer(CascadeSender):
    """Alice: answers each parity question, and counts it the first time it is asked."""

    def __init__(self, bits: Bits, permutations: Permutations) -> None:
        super().__init__(Message(bits.tolist()), permutations)
        shuffled = [bits[permutations[index]] for index in range(len(permutations))]
        self._ones = [np.concatenate(([0], np.cumsum(row, dtype=np.int64))) for row in shuffled]
        self._answered: set[tuple[int, int, int]] = set()

    def get_parity(self, index_start: int, index_end: int, pass_number: int) -> int:
        """Return the parity of Alice's bits between two places of a pass."""
        question = (pass_number, index_start, index_end)
        if question not in self._answered:
            self._answered.add(question)
            self._number_of_exposed_bits += 1
            self._net_exposed_bits += 1
        ones = self._ones[pass_number]
        return int(ones[index_end] - ones[index_start]) & 1


class Corrector(CascadeReceiver):
    """Bob: flips bits until every parity he knows of Alice's agrees with his own."""

    def __init__(self, bits: Bits, permutations: Permutations, sizes: list[int]) -> None:
        super().__init__(Message(bits.tolist()), permutations, BlockSizes(sizes))
        self._shuffled = [bits[permutations[index]] for index in range(len(permutations))]

    @property
    def corrected(self) -> Bits:
        """Bob's bits as they are now."""
        return np.array(self.message.message, dtype=np.uint8)

    def get_parity(self, index_start: int, index_end: int, pass_number: int) -> int:
        """Return the parity of Bob's bits between two places of a pass."""
        return int(np.count_nonzero(self._shuffled[pass_number][index_start:index_end])) & 1

    def correct_individual_error(self, error_index: int) -> None:
        """Flip one bit."""
        super().correct_individual_error(error_index)
        for row, places in zip(
            self._shuffled, self.permutations.inverted_permutations, strict=True
        ):
            row[places[error_index]] ^= 1

    def do_cascade(
        self,
        current_pass: int,
        current_block: int,
        block_size: int,
        alice: CascadeSender,
        size_blocks_parities: tuple[tuple[int, int], ...],
    ) -> None:
        """Correct one error in this block if its parities differ, and all that follow from it."""
        doubtful = [(block_size, current_pass, current_block)]
        while doubtful:
            doubtful.sort(reverse=True)
            size, index_pass, index_block = doubtful.pop()
            if self.check_match_of_parities(alice, index_pass, index_block, size):
                continue
            error = self.get_error_index(index_block, index_pass, size, alice)
            self.correct_individual_error(error)
            self.errors_found[index_pass].append(error)
            for other_pass, (other_size, _) in enumerate(size_blocks_parities[: current_pass + 1]):
                other_block = self.get_block_index(error, other_size, other_pass)
                doubtful.append((other_size, other_pass, other_block))
