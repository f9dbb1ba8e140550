import numpy as np

from helpers.paths import ROOT
from helpers.philox import philox
from numfuse.reference.philox import philox4x32

KNOWN_ANSWERS = [
    line.split()[1:]
    for line in (ROOT / "tests/c/philox4x32_kat.txt").read_text().splitlines()
    if not line.startswith("#")
]


def words_of(hexadecimal):
    return tuple(int(word, 16) for word in hexadecimal)


def test_philox_gives_the_known_answers():
    assert {rounds for rounds, *_ in KNOWN_ANSWERS} == {"7", "10"}
    for rounds, *words in KNOWN_ANSWERS:
        counter, key, expected = words_of(words[:4]), words_of(words[4:6]), words_of(words[6:])
        assert philox(counter, key, int(rounds)) == expected
        actual = philox4x32(counter, key, int(rounds))
        assert actual.dtype == np.uint32 and tuple(actual.tolist()) == expected


def test_vectorised_philox_is_the_scalar_one_for_each_counter():
    counters = np.random.default_rng(0).integers(2**32, size=(3, 5, 4))
    counters[0] = [2**32 - 1, 0, 2, 3], [0, 1, 2, 3], [1, 1, 2, 3], [0, 2**32 - 1, 0, 0], [2**32 - 1] * 4
    actual = philox4x32(counters, (7, 2**32 - 1))
    assert actual.shape == counters.shape
    for index in np.ndindex(3, 5):
        assert tuple(actual[index].tolist()) == philox(tuple(counters[index].tolist()), (7, 2**32 - 1))
