"""Experiments: which users get which arm, by a hash of the user's id; from a file, and without any state.

    [[experiments]]                                 # EXPERIMENTS_FILE
    name = "diversity"
    salt = "2026-11"                                # another one assigns the users again
    share = 0.5                                     # of all users; the others get what is served without the experiment

    [[experiments.arms]]
    name = "before"                                 # the first arm is what the others are compared with
    weight = 1

    [[experiments.arms]]
    name = "diverse"
    weight = 1
    settings = {diversity = 0.2}

With `interleaved = true` nobody has one of the arms, of which there are two then: every user who takes part gets lists
that are drafted from both, see interleaving.py.

The plan is GrowthBook's: an arm is a range of the hash's values, and of each range the first part takes part, so that a
share that grows moves nobody into another arm. The hash is the standard library's BLAKE2: GrowthBook's own has 10,000
values, and comes with a client that takes 15 MiB of every process of the server.
"""

import bisect
import hashlib
import tomllib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_exchange_center.arrays import Int64Array
from data_exchange_center.settings import Settings

HASHES = 2**64
INTERLEAVED = "interleaved"  # stands for the arm of those who have lists drafted from both
Name = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]  # as it stands in logs, metrics and answers
Version = Annotated[str, Field(pattern=r"^[0-9]+$")]


class ExperimentsError(Exception):
    """The file of the experiments is missing or wrong; the message names the place, the rule and the remedy."""

    is_expected = True


class _Described(BaseModel):
    """A part of the file: what it does not know is an error, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ArmSettings(_Described):
    """What an arm does otherwise than the server does without it; None leaves it as it is.

    Attributes:
        model_version: of the ranking model in Triton.
        shadow_version: of the ranking model that scores the lists for the log alone; see shadows.py.
        index: name or alias of the items' index in Elasticsearch.
        ranker: `recall_only` orders the list by the recall score.
        diversity: how much the list is spread, from 0 to 1.
    """

    model_version: Version | None = None
    shadow_version: Version | None = None
    index: Name | None = None
    ranker: Literal["served", "recall_only"] | None = None
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None


class Arm(_Described):
    """One way to make lists, and how many of the experiment's users get it, in proportion to the others' weights."""

    name: Name
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    settings: ArmSettings = ArmSettings()


class Assignment(NamedTuple):
    """A user's arm, and the probability with which a user of the experiment gets it.

    Of an interleaved experiment the arm is INTERLEAVED, changes nothing, and `drafted_from` are the experiment's two.
    """

    arm: Arm
    propensity: float
    salt: str
    drafted_from: tuple[Arm, ...] = ()


class Experiment(_Described):
    """Some arms; the first is what the others are compared with.

    Attributes:
        salt: of the hash that assigns the users.
        share: of all users, who take part.
        interleaved: whether each of these gets both arms, which are two of equal weight then, in one list.
    """

    name: Name
    salt: Annotated[str, Field(min_length=1, max_length=64)]
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    interleaved: bool = False
    arms: Annotated[tuple[Arm, ...], Field(min_length=2)]

    @field_validator("arms")
    @classmethod
    def _names_differ(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        twice = _twice(arm.name for arm in arms)
        if twice:
            raise ValueError(f"arm {twice} stands twice: give each a name of its own")
        return arms

    @model_validator(mode="after")
    def _two_take_turns(self) -> "Experiment":
        if self.interleaved and (len(self.arms) != 2 or self.arms[0].weight != self.arms[1].weight):
            raise ValueError("an interleaved list is drafted from two arms of equal weight: leave out the others")
        if self.interleaved and "shadow_version" in self.changes:
            raise ValueError("an interleaved list is of both arms and has no shadow: name it in another experiment")
        return self

    @cached_property
    def changes(self) -> frozenset[str]:
        """The settings that some arm changes."""
        return frozenset(name for arm in self.arms for name in arm.settings.model_dump(exclude_none=True))

    @cached_property
    def propensities(self) -> tuple[float, ...]:
        """Each arm's share of the experiment's users."""
        total = sum(arm.weight for arm in self.arms)
        return tuple(arm.weight / total for arm in self.arms)

    @cached_property
    def _ends(self) -> list[float]:
        """Where each arm's range of the hash's values, as numbers from 0 to 1, ends."""
        return [*np.cumsum(self.propensities)[:-1].tolist(), 1.0]

    def place(self, userid: int) -> int | None:
        """The place of the user's arm among `arms`; None for one of those who do not take part."""
        at = _fraction(self.salt, userid)
        arm = min(bisect.bisect_right(self._ends, at), len(self.arms) - 1)
        begins = self._ends[arm - 1] if arm else 0.0
        return arm if at < begins + self.share * self.propensities[arm] else None

    def places(self, userids: Iterable[int]) -> Int64Array:
        """[n] the same of many users, -1 for those who do not take part."""
        found = (self.place(userid) for userid in userids)
        return np.array([-1 if place is None else place for place in found], np.int64)

    def assign(self, userid: int) -> Assignment | None:
        """The user's arm, the same in every process and at any time; None for one of those who do not take part."""
        place = self.place(userid)
        if place is None:
            return None
        if self.interleaved:
            return Assignment(Arm(name=INTERLEAVED), 1.0, self.salt, self.arms)
        return Assignment(self.arms[place], self.propensities[place], self.salt)


class Experiments(_Described):
    """All that run at the same time. Each divides the users by a salt of its own, so that none leans on another."""

    experiments: tuple[Experiment, ...] = ()

    @model_validator(mode="after")
    def _differ(self) -> "Experiments":
        for what in ("name", "salt"):
            twice = _twice(getattr(experiment, what) for experiment in self.experiments)
            if twice:
                raise ValueError(f"{what} {twice} stands twice: two experiments would divide the users alike")
        changed = _twice(setting for experiment in self.experiments for setting in experiment.changes)
        if changed:
            raise ValueError(f"two experiments change {changed}: a user's list could follow only one of them")
        if sum(experiment.interleaved for experiment in self.experiments) > 1:
            raise ValueError("two experiments are interleaved: a user's list could be drafted for only one of them")
        return self

    @property
    def changes(self) -> frozenset[str]:
        """The settings that some arm of some experiment changes."""
        return frozenset(setting for experiment in self.experiments for setting in experiment.changes)

    @classmethod
    def load(cls, file: Path | None) -> "Experiments":
        """The experiments of a file; none where there is no file to read.

        Raises:
            ExperimentsError: the file is missing, is no TOML, or describes what cannot be.
        """
        if file is None:
            return cls()
        try:
            return cls.model_validate(tomllib.loads(file.read_text("utf-8-sig")))
        except (OSError, UnicodeDecodeError) as error:
            raise ExperimentsError(f"{file} cannot be read ({error}): EXPERIMENTS_FILE names it.") from error
        except tomllib.TOMLDecodeError as error:
            raise ExperimentsError(f"{file} is no TOML: {error}.") from error
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(map(str, fault["loc"])) or "experiments"
            raise ExperimentsError(f"{file}: {place}: {fault['msg']}; see online/experiments.py.") from error

    def assign(self, userid: int) -> dict[str, Assignment]:
        """The user's arms by the experiments' names, of those that the user takes part in."""
        assigned = {experiment.name: experiment.assign(userid) for experiment in self.experiments}
        return {name: assignment for name, assignment in assigned.items() if assignment}


def _twice(names: Iterable[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def toss(salt: str, userid: int, *moment: int) -> bool:
    """A fair coin for a user's list. It falls alike at the same moment: a list that is loaded again is the same.

    Args:
        salt: of the experiment.
        userid: whose list it is.
        moment: numbers that tell this toss from the user's others.
    """
    return _fraction(f"{salt} toss {moment}", userid) < 0.5


def _fraction(salt: str, userid: int) -> float:
    """A number from 0 to 1, as if drawn once for each user of each salt."""
    digest = hashlib.blake2b(f"{salt}:{userid}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / HASHES


def experiments_of(settings: Settings) -> Experiments:
    """Those of the settings' file, whose path is relative to the project's folder as RULES_FILE's is.

    Raises:
        ExperimentsError: as `Experiments.load` does.
    """
    return Experiments.load(settings.folder(settings.experiments_file) if settings.experiments_file else None)


NO_EXPERIMENTS = Experiments()
