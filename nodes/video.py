"""DUO-VSR Upscale Video: a VIDEO of any length, frame by frame, in constant memory."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..duovsr_vs.errors import DuoVsrError
from .decode import FileSource, TensorSource, source_of
from .encode import CODECS, TemporaryVideo, check_codec, temporary_path, written
from .model import CATEGORY, DuoModel, NodeModel
from .progress import Bar, cancellable, noted
from .widgets import ALIASES, budget, upscaling


class UpscaleVideo(io.ComfyNode):
    """VIDEO to VIDEO; timestamps, sound and depth are kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DuoVSR_UpscaleVideo",
            display_name="DUO-VSR Upscale Video",
            category=CATEGORY,
            description="Upscales a video frame by frame into a temporary file: memory does not grow with its length. "
            "Every frame keeps its time, and sound is copied where the container takes it.",
            search_aliases=ALIASES,
            inputs=[
                DuoModel.Input("model", tooltip="From DUO-VSR Load Model."),
                io.Video.Input("video", tooltip="A video, trimmed or not, each side from 16 pixels."),
                *upscaling(),
                io.Combo.Input(
                    "codec",
                    options=list(CODECS),
                    default="h264",
                    tooltip="Encoder of the result. Default: h264, with 10 bits where the source has more than 8. Save "
                    "Video on auto copies the stream as it is; for ffv1 choose mkv there.",
                ),
                io.Int.Input(
                    "crf",
                    default=16,
                    min=0,
                    max=51,
                    tooltip="Quality of h264, h265 and av1: smaller is better and takes more bytes. Default: 16, hard "
                    "to tell from lossless.",
                ),
                budget(),
            ],
            outputs=[io.Video.Output(display_name="video")],
        )

    @classmethod
    def execute(cls, model: NodeModel, video: Any, codec: str, crf: int, **chosen: Any) -> io.NodeOutput:
        check_codec(codec)
        source = source_of(video)
        try:
            return io.NodeOutput(TemporaryVideo(_upscaled(model, source, codec, crf, chosen)))
        finally:
            source.close()


def _upscaled(model: NodeModel, source: FileSource | TensorSource, codec: str, crf: int, chosen: dict[str, Any]) -> Any:
    """The file of the upscaled video."""
    picture = source.picture
    engine = model.upscaler((picture.width, picture.height), chosen)
    size = engine.plan.out_width, engine.plan.out_height
    bar, count = Bar(picture.expected), 0
    path = temporary_path(codec)
    with (
        noted(engine),
        written(path, source, size, codec, crf) as writer,
        cancellable(engine.stream(source.frames())) as frames,
    ):
        for frame in frames:
            writer.write(frame)
            bar.advance(frame)
            count += 1
            del frame  # one less in memory while the next one is made
        if count != len(source.stamps):
            raise DuoVsrError(f"{len(source.stamps)} frames went in and {count} came out; please report this")
    return path
