"""Replacement for a compiled package that Home Assistant imports at every start. It detects no speech."""


class MicroVad:
    """Speech detector that never detects speech."""

    def Process10ms(self, audio: bytes) -> float:  # noqa: N802 - the real one's name
        """Return the probability of speech in 10 ms of audio."""
        return 0.0
