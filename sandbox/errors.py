"""What can go wrong with a box before any code runs in it."""

from __future__ import annotations


class LayerError(Exception):
    """A layer of confinement cannot be had here, or did not become what was asked for. Says why."""


class BoxError(Exception):
    """No box can be made, or one was lost before its code began. Says why."""


class TierError(BoxError):
    """Boxes of this kind do not become ready here. If it happens again and again, there are none. Says why."""


class PreloadError(BoxError):
    """A module that is to be loaded before any box is made cannot be. Says which, and why."""


class SandboxRefusedError(Exception):
    """Less protects here than the operator accepts, so that no code is run. Says what to do."""


class InputRefusedError(Exception):
    """A job cannot begin as it was asked for, so that nothing was run: for a file or a limit. Says which, and why."""
