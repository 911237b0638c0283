"""Replacement for a compiled package that Home Assistant imports at every start. It changes no audio."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Processed:
    """A piece of audio after processing."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class AudioProcessor:
    """A sound filter without effect for any gain and noise suppression."""

    auto_gain: float
    noise_suppression: int

    def Process10ms(self, audio: bytes) -> Processed:  # noqa: N802 - the real one's name
        """Return the same 10 ms of audio."""
        return Processed(audio)
