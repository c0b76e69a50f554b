"""Whether the experiments can be believed: many without a difference, and many with a known one.

    python -m benchmarks.quality.experiment_simulation [--experiments 200] [--with-gain 1000] [--users 4000]

Users are assigned by the server's own function (online/experiments.py), a salt an experiment. Where the arms do not
differ (A/A), the p-values must be uniform: the share of false alarms is then what it is said to be. Where one arm's
users like GAIN more of what they see, the difference must be found with the power for which the report sizes the
experiment. Ends with status 1 where either fails.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.quality.experiment_report import users_needed, welch
from data_exchange_center.arrays import FloatArray, Int64Array
from data_exchange_center.stage import run_stage
from online.experiments import Arm, Experiment

EXPERIMENTS, WITH_GAIN = 200, 1000  # a share of 0.8 is known to 0.013 from a thousand
USERS, SEED = 4000, 2024
GAIN, POWER = 0.05, 0.8
LEAST_P = 0.01  # of the Kolmogorov-Smirnov test of the p-values
LISTS = (5, 20)  # that a user sees, at least and at most
LIKE_RATE = (2.0, 8.0)  # of the Beta distribution of users' shares of likes: 0.2 on average, and far from one alike


class SimulationError(Exception):
    """The experiments say something else than what is true."""

    is_expected = True


@dataclass(frozen=True)
class Simulation:
    """What many experiments said.

    Attributes:
        uniform_p: of the test whether the A/A experiments' p-values are uniform.
        false_alarms: share of them that call a difference where there is none.
        users: of each experiment with a gain, as the report sizes it.
        power: share of them that find the gain.
    """

    uniform_p: float
    false_alarms: float
    users: int
    power: float


def shares_of_likes(users: int, gain: FloatArray, generator: np.random.Generator) -> FloatArray:
    """[users] of what each was shown, the share that they like.

    Args:
        users: how many.
        gain: [users] by how much each one's taste is met better than without the experiment.
        generator: of their tastes, and of what they do.
    """
    tastes = generator.beta(*LIKE_RATE, users)
    lists = generator.integers(LISTS[0], LISTS[1] + 1, users)
    shares: FloatArray = generator.binomial(lists, np.minimum(tastes * (1 + gain), 1.0)) / lists
    return shares


def experiment_of(number: int) -> Experiment:
    """The number-th of these experiments: two arms of the same weight, a salt of its own."""
    arms = (Arm(name="before", weight=1), Arm(name="after", weight=1))
    return Experiment(name=f"simulated-{number}", salt=f"simulated-{number}", arms=arms)


def outcome(number: int, userids: Int64Array, gain: float, generator: np.random.Generator) -> tuple[float, bool]:
    """The p-value of one experiment, and whether its second arm did better.

    Args:
        number: of the experiment.
        userids: [users] who take part.
        gain: of the second arm.
        generator: of what they do.
    """
    assigned = experiment_of(number).places(userids.tolist())
    values = shares_of_likes(len(userids), gain * assigned, generator)
    first, other = values[assigned == 0], values[assigned == 1]
    return welch(first, other)[0], bool(other.mean() > first.mean())


def simulate(experiments: int, with_gain: int, users: int, seed: int, gain: float = GAIN) -> Simulation:
    """Runs experiments without and with a gain.

    Args:
        experiments, with_gain: how many of each kind.
        users: of each A/A experiment, and of the pilot that sizes the others.
        seed: of what users do.
        gain: of the second arm, as a share of the first one's rate.
    """
    generator = np.random.default_rng(seed)
    same = np.array([outcome(n, np.arange(1, users + 1), 0.0, generator)[0] for n in range(experiments)])
    needed = users_needed(shares_of_likes(users, np.zeros(users), generator), gain, POWER)
    found = [outcome(experiments + n, np.arange(1, needed + 1), gain, generator) for n in range(with_gain)]
    return Simulation(
        uniform_p=float(stats.kstest(same, "uniform").pvalue),
        false_alarms=float((same < 0.05).mean()),
        users=needed,
        power=float(np.mean([p < 0.05 and is_better for p, is_better in found])),
    )


def main() -> None:
    """Simulates, prints what came of it, and checks it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS, help="A/A")
    parser.add_argument("--with-gain", type=int, default=WITH_GAIN, help=f"experiments with a gain of {GAIN:.0%}%")
    parser.add_argument("--users", type=int, default=USERS, help="of each A/A experiment, and of the pilot")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    simulated = simulate(arguments.experiments, arguments.with_gain, arguments.users, arguments.seed)
    print(
        f"{arguments.experiments} A/A experiments of {arguments.users:,} users: p-values uniform with p "
        f"{simulated.uniform_p:.3f}, {simulated.false_alarms:.1%} false alarms at 5 %"
    )
    print(
        f"{arguments.with_gain} experiments of {simulated.users:,} users with a gain of {GAIN:.0%}: found with power "
        f"{simulated.power:.3f}, sized for {POWER}"
    )
    if simulated.uniform_p <= LEAST_P or simulated.power < POWER:
        raise SimulationError(f"the p-values are not uniform (p <= {LEAST_P}), or the power is below {POWER}.")


if __name__ == "__main__":
    run_stage(main)
