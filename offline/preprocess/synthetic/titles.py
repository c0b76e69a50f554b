"""Titles in MovieLens' way: year, article at the end, numbered parts of a series, letters of ISO-8859-1."""

import numpy as np

from offline.preprocess.synthetic.world import Items

WORDS = (
    "Amélie Autumn Bridge Canyon Carnival City Comet Dancer Dawn Desert Echo Empire Evening Falcon Father Fire "
    "Fugitive Garden Ghost Gold Harbor Heart Highway Horizon Hotel Island Journey Kingdom Lantern Last Letter "
    "Lion Midnight Mirror Moon Mother Mountain Night Ocean Orchid Paris Promise Rain Return River Road Secret "
    "Señor Shadow Silence Silver Sky Snow Soldier Star Station Storm Stream Summer Sun Thunder Tide Tiger Train "
    "Valley Voyage Waltz Widow Winter Wolf "
).split()
PATTERNS = ("The {0} {1}{4} ({3})", "{0} of the {1}{4} ({3})", "{0}: The {1} {2}{4} ({3})", "{0} {1}, The{4} ({3})")
NUMERALS = ("", " II", " III", " IV", " V")


def draw_titles(rng: np.random.Generator, items: Items) -> list[str]:
    """[items]; a series' parts share words and pattern: Night of the Tiger (1984), Night of the Tiger II (1987)."""
    count = len(items.ids)
    words = np.array(WORDS)[rng.integers(0, len(WORDS), (count, 3))][items.first_part]
    patterns = np.array(PATTERNS)[rng.integers(0, len(PATTERNS), count)][items.first_part]
    numerals = np.array(NUMERALS)[items.part]
    return [
        pattern.format(*row, year, numeral)
        for pattern, row, year, numeral in zip(patterns, words, items.year, numerals, strict=True)
    ]
