"""Every error that Rankscope raises on purpose: one root, so that the command line can catch it."""

from __future__ import annotations


class RankscopeError(Exception):
    """Root of all our errors: the message names the thing, the rule and the mend."""


class UsageError(RankscopeError):
    """The call itself cannot be right (two tracers at once, an unknown option value)."""


class TraceError(RankscopeError):
    """A run or one of its files cannot be read."""


class NotATrace(TraceError):
    """The path or file is not one of ours."""


class NewerFormat(TraceError):
    """The file was written by a newer Rankscope than this one."""


class DamagedTrace(TraceError):
    """The file is ours but nothing of it can be read."""
