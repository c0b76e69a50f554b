"""Offline: from raw ratings to artefacts."""

import os

# Before torch is imported anywhere below. Its OpenMP threads spin while they wait for each other, by default so long
# that two trainings on two cores, or one beside a busy server, come to a standstill; so short costs 2 % of the speed.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")
