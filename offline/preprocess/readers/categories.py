"""What the other releases call MovieLens-1M's categories: genres, age groups and occupations."""

import numpy as np
import pandas as pd

from data_exchange_center.vocabularies import AGES

NO_GENRES = "(no genres listed)"
GROUPS = np.array(AGES, np.int64)  # the youngest age of each group is the group's code

# MovieLens-100K's names → the codes of MovieLens-1M's README. A student's code depends on the age.
OCCUPATIONS = {
    "administrator": 3,  # clerical/admin
    "artist": 2,
    "doctor": 6,  # doctor/health care
    "educator": 1,  # academic/educator
    "engineer": 17,  # technician/engineer
    "entertainment": 0,  # other
    "executive": 7,  # executive/managerial
    "healthcare": 6,
    "homemaker": 9,
    "lawyer": 11,
    "librarian": 0,
    "marketing": 14,  # sales/marketing
    "none": 19,  # unemployed
    "other": 0,
    "programmer": 12,
    "retired": 13,
    "salesman": 14,
    "scientist": 15,
    "technician": 17,
    "writer": 20,
}
STUDENT, PUPIL = 4, 10  # college/grad student, K-12 student
GROWN_UP = 18


def genre_lists(texts: pd.Series) -> pd.Series:
    """[n] lists of genres from `Genre|Genre`, in MovieLens-1M's spelling; no genre is an empty list.

    Later releases write Children for what MovieLens-1M and MovieLens-100K call Children's.
    """
    named = texts.mask(texts == NO_GENRES, "").str.replace(r"(?:^|(?<=\|))Children(?=\||$)", "Children's", regex=True)
    lists = named.str.split("|")
    return lists.mask(named == "", pd.Series([[]] * len(lists), index=lists.index))


def age_groups(ages: pd.Series) -> pd.Series:
    """[n] code of the age group of each age in years, as text; what is no age stays as it is."""
    years = pd.to_numeric(ages, errors="coerce")
    group = np.searchsorted(GROUPS, years.fillna(0), side="right") - 1
    codes = pd.Series(GROUPS[np.maximum(group, 0)].astype(str), index=ages.index, dtype=object)
    return ages.where(~(years >= 0), codes)


def occupation_codes(names: pd.Series, ages: pd.Series) -> pd.Series:
    """[n] code of each named occupation, as text; an unknown one stays as it is.

    Args:
        ages: [n] in years, as text: a student under 18 is a K-12 student, any other a college or grad student.
    """
    codes = names.map({name: str(code) for name, code in OCCUPATIONS.items()}).fillna(names)
    is_student, is_young = names == "student", pd.to_numeric(ages, errors="coerce") < GROWN_UP
    return codes.mask(is_student & is_young, str(PUPIL)).mask(is_student & ~is_young, str(STUDENT))
