"""What a user's arms make of a request: by which ranking model and from which index, and how the list is made."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from data_exchange_center.log_entries import DEFAULT_ARM
from online.experiments import ArmSettings, Assignment
from online.list_options import ListOptions
from online.snapshot import Snapshot


@dataclass(frozen=True)
class Arms:
    """The arms of one user in all experiments that the user takes part in.

    Attributes:
        by_experiment: the arm's name by the experiment's.
        propensity: with which the user got all of them.
        settings: of all of them together; no two experiments change the same one.
        teams: by the arms' names, what holds for either side of an interleaved list; empty where the user has none.
        salt: of the experiment that interleaves.
    """

    by_experiment: Mapping[str, str] = field(default_factory=dict)
    propensity: float = 1.0
    settings: ArmSettings = ArmSettings()
    teams: Mapping[str, "Arms"] = field(default_factory=dict)
    salt: str = ""

    @classmethod
    def of(cls, assigned: Mapping[str, Assignment]) -> "Arms":
        """The arms as `Experiments.assign` found them."""
        if not assigned:
            return NO_ARMS
        settings = _together(found.arm.settings for found in assigned.values())
        drafting = next((found for found in assigned.values() if found.drafted_from), None)
        sides = drafting.drafted_from if drafting else ()
        return cls(
            {experiment: found.arm.name for experiment, found in assigned.items()},
            math.prod(found.propensity for found in assigned.values()),
            settings,
            {arm.name: cls(settings=_together([settings, arm.settings])) for arm in sides},
            drafting.salt if drafting else "",
        )

    @property
    def label(self) -> str:
        """As the log of the lists names them: `experiment:arm`, joined by +."""
        return "+".join(f"{experiment}:{arm}" for experiment, arm in self.by_experiment.items()) or DEFAULT_ARM

    def snapshot(self, present: Snapshot) -> Snapshot:
        """What the request goes by: with the arms' version of the ranking model, where they name one."""
        version = self.settings.model_version
        return present if version is None else present.with_ranking_version(version)

    def options(self, asked: ListOptions, named: bool) -> ListOptions:
        """How the list is made.

        Args:
            asked: by the request.
            named: whether the request itself says how diverse the list is to be; then the arms do not.
        """
        settings = self.settings
        return replace(
            asked,
            diversity=asked.diversity if named or settings.diversity is None else settings.diversity,
            is_ranked=settings.ranker != "recall_only",
            index=settings.index or "",
        )


def _together(settings: Iterable[ArmSettings]) -> ArmSettings:
    """What some arms change, all of them together."""
    changed = (one.model_dump(exclude_none=True) for one in settings)
    return ArmSettings(**{name: value for one in changed for name, value in one.items()})


NO_ARMS = Arms()
