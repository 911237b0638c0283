"""Stands in for a package that Home Assistant imports at every start and that needs a compiler: it hears no speech."""


class MicroVad:
    """Speech detection in which nobody ever speaks."""

    def Process10ms(self, audio: bytes) -> float:  # noqa: N802 - the real one's name
        """The probability of speech in 10 ms of audio."""
        return 0.0
