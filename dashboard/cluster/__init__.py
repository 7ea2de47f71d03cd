"""Answers worked out by several processes, of this machine or of a Dask cluster."""

from dashboard.cluster.answers import Elsewhere
from dashboard.cluster.places import Dask, InProcess, Place, Processes

__all__ = ["Dask", "Elsewhere", "InProcess", "Place", "Processes"]
