"""Category → index tables of MovieLens. Index 0 is "unknown" in every one of them.

Standard library only: the Feast server's container reads this through features.py.
"""

from collections.abc import Iterable, Mapping

UNKNOWN = 0

GENRES: tuple[str, ...] = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


def _indices(categories: Iterable[str | int]) -> dict[str | int, int]:
    return {category: index for index, category in enumerate(categories, start=1)}


GENRE_INDEX: Mapping[str | int, int] = _indices(GENRES)
GENDER_INDEX: Mapping[str | int, int] = _indices(("M", "F"))
AGE_INDEX: Mapping[str | int, int] = _indices((1, 18, 25, 35, 45, 50, 56))
OCCUPATION_INDEX: Mapping[str | int, int] = _indices(range(21))

# What the age and occupation codes of users.dat mean, from MovieLens-1M's own README.
AGE_LABELS = {1: "under 18", 18: "18-24", 25: "25-34", 35: "35-44", 45: "45-49", 50: "50-55", 56: "56+"}

# Sizes of the vocabularies that do not depend on the data, "unknown" counted. A flag is 0 or 1.
FIXED_SIZES: Mapping[str, int] = {
    "gender": len(GENDER_INDEX) + 1,
    "age": len(AGE_INDEX) + 1,
    "occupation": len(OCCUPATION_INDEX) + 1,
    "flag": 2,
}


def slug(genre: str) -> str:
    """The genre as a part of a column name: `Children's` → `childrens`, `Sci-Fi` → `sci_fi`."""
    return genre.lower().replace("'", "").replace("-", "_")
