"""The sound of a VIDEO: packets where the container takes them, else encoded anew, always kept beside the pictures."""

from __future__ import annotations

import io as bytes_io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
import torch

from .decode import FileSource, TensorSource, open_input

ENCODERS = {"mp4": "aac", "matroska": "flac"}
BLOCK = 1024
"""Samples that are encoded at once."""


class Track(Protocol):
    """One sound on its way into a file."""

    def write_until(self, seconds: Fraction | None) -> None:
        """Write what begins before `seconds` of the output's clock; None: all that is left."""


class Silence:
    """No sound."""

    def write_until(self, seconds: Fraction | None) -> None:
        pass


class CopiedTracks:
    """Packets of all audio streams of a file, moved so that its first picture is at 0."""

    def __init__(self, source: FileSource, output: Any):
        self._container, self._output, self._origin = open_input(source.file), output, source.origin
        streams = [s for s in self._container.streams.audio if s.codec_context is not None]
        self._made = {s.index: output.add_stream_from_template(s) for s in streams}
        for stream in streams:
            self._made[stream.index].metadata.update(stream.metadata)
        self._packets = self._container.demux(*streams) if streams else iter(())
        self._next: Any = None

    def write_until(self, seconds: Fraction | None) -> None:
        while (packet := self._next or next(self._packets, None)) is not None:
            self._next = None
            if packet.dts is None:
                continue
            base = Fraction(packet.time_base)
            shift = round(self._origin / base)
            if seconds is not None and (packet.dts - shift) * base > seconds:
                self._next = packet
                return
            packet.dts -= shift
            packet.pts = packet.dts if packet.pts is None else packet.pts - shift
            packet.stream = self._made[packet.stream.index]
            self._output.mux_one(packet) if hasattr(self._output, "mux_one") else self._output.mux(packet)
        if seconds is None:
            self._container.close()


class EncodedTrack:
    """One sound, encoded anew: cut to the trim, or from a tensor."""

    def __init__(self, blocks: Iterator[np.ndarray[Any, Any]], rate: int, channels: int, output: Any, muxer: str):
        """blocks: (channels, samples) float32."""
        self._output, self._blocks, self._rate = output, blocks, rate
        self._layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(channels, f"{channels} channels")
        self._stream: Any = output.add_stream(ENCODERS[muxer], rate=rate, layout=self._layout)
        self._done = 0

    def write_until(self, seconds: Fraction | None) -> None:
        while seconds is None or Fraction(self._done, self._rate) <= seconds:
            block = next(self._blocks, None)
            if block is None:
                break
            for at in range(0, block.shape[1], BLOCK):
                self._encode(np.ascontiguousarray(block[:, at : at + BLOCK], np.float32))
        if seconds is None:
            self._output.mux(self._stream.encode(None))

    def _encode(self, samples: np.ndarray[Any, Any]) -> None:
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._layout)
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._done, Fraction(1, self._rate)
        self._done += samples.shape[1]
        self._output.mux(self._stream.encode(frame))


def track_of(source: FileSource | TensorSource, output: Any, muxer: str) -> Track:
    """The sound of a source, its streams added to an output."""
    if isinstance(source, TensorSource):
        return _from_tensor(source.sound, output, muxer)
    with open_input(source.file) as container:
        streams = [s for s in container.streams.audio if s.codec_context is not None]
        if not streams:
            return Silence()
        if not source.is_trimmed and all(_is_taken(stream, muxer) for stream in streams):
            return CopiedTracks(source, output)
        context = streams[0].codec_context
        rate, channels = context.sample_rate, context.layout.nb_channels
    return EncodedTrack(_trimmed(source, rate), rate, channels, output, muxer)


def _from_tensor(sound: Any, output: Any, muxer: str) -> Track:
    if sound is None or not sound["waveform"].shape[-1]:
        return Silence()
    waveform = sound["waveform"][0].to("cpu", torch.float32)
    blocks = (part.numpy() for part in waveform.split(BLOCK, 1))
    return EncodedTrack(blocks, int(sound["sample_rate"]), int(waveform.shape[0]), output, muxer)


def _is_taken(stream: Any, muxer: str) -> bool:
    """Whether a muxer takes a stream's packets as they are: tried in memory, before the long work begins."""
    try:
        with av.open(bytes_io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def _trimmed(source: FileSource, rate: int) -> Iterator[np.ndarray[Any, Any]]:
    """Samples of the first sound from the first picture to the end of the trim, silence where there is none."""
    begin = source.origin
    end = begin + Fraction(source.duration).limit_denominator(1_000_000) if source.duration else None
    at = 0
    with open_input(source.file) as container:
        stream = next(s for s in container.streams.audio if s.codec_context is not None)
        if begin:
            container.seek(int(begin * av.time_base))
        resampler = av.AudioResampler(format="fltp", rate=rate)
        for frame in container.decode(stream):
            for part in resampler.resample(frame):
                samples, begins = part.to_ndarray(), round((Fraction(part.pts or 0) * part.time_base - begin) * rate)
                if begins > at:  # a gap
                    yield np.zeros((samples.shape[0], begins - at), np.float32)
                    at = begins
                samples = samples[:, max(at - begins, 0) :]
                if end is not None:
                    samples = samples[:, : max(round((end - begin) * rate) - at, 0)]
                if samples.shape[1]:
                    at += samples.shape[1]
                    yield samples
                elif end is not None and begins > (end - begin) * rate:
                    return
