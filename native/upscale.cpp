#include "upscale.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <vector>

#include "bridge.h"
#include "chunks.h"
#include "error.h"
#include "formats.h"

namespace duovsr {

const char *const UPSCALE_ARGUMENTS =
    "clip:vnode;model:data:opt;scale:int:opt;width:int:opt;height:int:opt;strength:float:opt;detail:float:opt;"
    "seed:int:opt;device:data:opt;precision:data:opt;tile:int:opt;tile_overlap:int:opt;scene_cut:int:opt;"
    "matrix:int:opt;threads:int:opt;vram:data:opt;";

namespace {

// One RGBS clip in, one RGBS clip out. Chunk c is output frames [c * chunk, (c + 1) * chunk), clamped to the clip:
// a fixed grid, so that a frame does not depend on what was asked for before.
struct Instance {
    Instance(Node clip, const VSVideoInfo &output, bridge::Upscaler upscaler, const VSAPI *vsapi)
        : clip(std::move(clip)), output(output), upscaler(upscaler), finished(upscaler.chunk, vsapi) {}
    ~Instance() { bridge::close(upscaler); }

    int start(int n) const { return n / upscaler.chunk * upscaler.chunk; }
    int stop(int n) const { return std::min(start(n) + upscaler.chunk, output.numFrames); }
    int first(int n) const { return std::max(start(n) - upscaler.before, 0); }
    int end(int n) const { return std::min(stop(n) + upscaler.after, output.numFrames); }

    Node clip;
    VSVideoInfo output;
    bridge::Upscaler upscaler;
    Chunks finished;
};

bridge::Planes planes(const VSFrame *frame, const VSAPI *vsapi) {
    bridge::Planes found;
    for (int p = 0; p < 3; p++)
        found[static_cast<size_t>(p)] = {vsapi->getReadPtr(frame, p), vsapi->getStride(frame, p)};
    return found;
}

bridge::Planes writablePlanes(VSFrame *frame, const VSAPI *vsapi) {
    bridge::Planes found;
    for (int p = 0; p < 3; p++)  // first the call that makes the plane this frame's own, then its stride
        found[static_cast<size_t>(p)].data = vsapi->getWritePtr(frame, p);
    for (int p = 0; p < 3; p++)
        found[static_cast<size_t>(p)].stride = vsapi->getStride(frame, p);
    return found;
}

// One flag per frame, true where it is tagged as the first of a shot; empty when none carries the tag.
std::vector<bool> taggedCuts(const std::vector<Frame> &frames, const VSAPI *vsapi) {
    std::vector<bool> cuts;
    bool tagged = false;
    for (const Frame &frame : frames) {
        const int64_t value = integer(vsapi->getFramePropertiesRO(frame.get()), "_SceneChangePrev", -1, vsapi);
        tagged = tagged || value >= 0;
        cuts.push_back(value > 0);
    }
    return tagged ? cuts : std::vector<bool>();
}

// A sample aspect ratio that keeps the displayed shape where width and height do not grow alike, rounding apart.
void keepShape(VSFrame *frame, const VSVideoInfo &input, const VSVideoInfo &output, const VSAPI *vsapi) {
    VSMap *properties = vsapi->getFramePropertiesRW(frame);
    int64_t num = integer(properties, "_SARNum", 0, vsapi);
    int64_t den = integer(properties, "_SARDen", 0, vsapi);
    const int64_t wide = int64_t{output.width} * input.height;
    const int64_t high = int64_t{output.height} * input.width;
    if (num < 1 || den < 1 || std::abs(wide - high) <= std::max(input.width, input.height))
        return;
    vsh::muldivRational(&num, &den, high, wide);
    vsapi->mapSetInt(properties, "_SARNum", num, maReplace);
    vsapi->mapSetInt(properties, "_SARDen", den, maReplace);
}

// Makes the chunk that holds frame n from its input window, which VapourSynth has ready.
std::vector<Frame> makeChunk(const Instance &self, int n, VSFrameContext *context, VSCore *core, const VSAPI *vsapi) {
    std::vector<Frame> sources;
    std::vector<bridge::Planes> sourcePlanes;
    for (int i = self.first(n); i < self.end(n); i++) {
        sources.push_back(own(vsapi->getFrameFilter(i, self.clip.get(), context), vsapi));
        refuseFields(vsapi->getFramePropertiesRO(sources.back().get()), i, vsapi);
        sourcePlanes.push_back(planes(sources.back().get(), vsapi));
    }
    std::vector<Frame> made;
    std::vector<bridge::Planes> targetPlanes;
    for (int i = self.start(n); i < self.stop(n); i++) {
        const VSFrame *properties = sources[static_cast<size_t>(i - self.first(n))].get();
        VSFrame *frame =
            vsapi->newVideoFrame(&self.output.format, self.output.width, self.output.height, properties, core);
        made.push_back(own(frame, vsapi));
        keepShape(frame, *vsapi->getVideoInfo(self.clip.get()), self.output, vsapi);
        targetPlanes.push_back(writablePlanes(frame, vsapi));
    }
    bridge::run(self.upscaler, self.first(n), sourcePlanes, self.start(n), targetPlanes, taggedCuts(sources, vsapi));
    return made;
}

const VSFrame *VS_CC getFrame(int n, int reason, void *data, void **, VSFrameContext *context, VSCore *core,
                              const VSAPI *vsapi) {
    auto &self = *static_cast<Instance *>(data);
    if (reason != arInitial && reason != arAllFramesReady)
        return nullptr;
    if (const VSFrame *found = self.finished.find(n))
        return found;
    if (reason == arInitial) {
        for (int i = self.first(n); i < self.end(n); i++)
            vsapi->requestFrameFilter(i, self.clip.get(), context);
        return nullptr;
    }
    try {  // one thread at a time comes here: fmParallelRequests
        self.finished.add(n / self.upscaler.chunk, makeChunk(self, n, context, core, vsapi));
        return self.finished.find(n);
    } catch (const std::exception &error) {
        vsapi->setFilterError((std::string("Upscale: ") + error.what()).c_str(), context);
        return nullptr;
    }
}

void VS_CC release(void *data, VSCore *, const VSAPI *) { delete static_cast<Instance *>(data); }

// The options that were given; the Python side knows the defaults and the limits.
bridge::Settings readSettings(const VSMap *in, const VSAPI *vsapi) {
    bridge::Settings settings;
    const auto given = [&](const char *name) { return vsapi->mapNumElements(in, name) > 0; };
    for (const char *name : {"scale", "width", "height", "seed", "tile", "tile_overlap", "threads"}) {
        if (given(name))
            settings.emplace_back(name, vsapi->mapGetInt(in, name, 0, nullptr));
    }
    for (const char *name : {"strength", "detail"}) {
        if (given(name))
            settings.emplace_back(name, vsapi->mapGetFloat(in, name, 0, nullptr));
    }
    for (const char *name : {"model", "device", "precision", "vram"}) {
        if (given(name))
            settings.emplace_back(name, std::string(vsapi->mapGetData(in, name, 0, nullptr)));
    }
    if (given("scene_cut"))
        settings.emplace_back("scene_cut", vsapi->mapGetInt(in, "scene_cut", 0, nullptr) != 0);
    return settings;
}

std::optional<int> readMatrix(const VSMap *in, const VSAPI *vsapi) {
    if (vsapi->mapNumElements(in, "matrix") < 1)
        return std::nullopt;
    return vsapi->mapGetIntSaturated(in, "matrix", 0, nullptr);
}

// Frame 0 tells how the clip is tagged.
Frame firstFrame(VSNode *clip, const VSAPI *vsapi) {
    char text[512] = {};
    Frame frame = own(vsapi->getFrame(0, clip, text, sizeof text), vsapi);
    if (!frame)
        throw Error(std::string("the clip's first frame cannot be read: ") + text);
    return frame;
}

// Chroma planes are smaller by whole factors, so that not every size exists in every format.
void checkSize(const VSVideoFormat &format, const bridge::Upscaler &upscaler, const VSAPI *vsapi) {
    if (vsh::areValidDimensions(&format, upscaler.width, upscaler.height))
        return;
    const auto next = [](int size, int shift) { return std::to_string(((size - 1) >> shift << shift) + (1 << shift)); };
    throw Error("the output would be " + std::to_string(upscaler.width) + "x" + std::to_string(upscaler.height) +
                ", a size that " + formatName(format, vsapi) + " cannot have; give width=" +
                next(upscaler.width, format.subSamplingW) + ", height=" + next(upscaler.height, format.subSamplingH) +
                ", or convert the clip to 4:4:4 first");
}

void tellAssumption(const Colour &colour, VSCore *core, const VSAPI *vsapi) {
    if (!colour.assumed)
        return;
    const std::string name = colour.matrix == 1 ? "BT.709 (1)" : "SMPTE 170M (6)";
    const std::string text = "Upscale: the clip has no _Matrix; " + name +
                             " is assumed from its number of lines and set; give matrix= if that is wrong";
    vsapi->logMessage(mtWarning, text.c_str(), core);
}

// What the upscaler had to do to stay within `vram`.
void tellNote(const bridge::Upscaler &upscaler, VSCore *core, const VSAPI *vsapi) {
    if (!upscaler.note.empty())
        vsapi->logMessage(mtInformation, ("Upscale: " + upscaler.note).c_str(), core);
}

// Owns the upscaler until an instance does.
struct Opened {
    bridge::Upscaler upscaler;
    ~Opened() { bridge::close(upscaler); }
    bridge::Upscaler release() { return std::exchange(upscaler, bridge::Upscaler()); }
};

Node makeFilter(Node rgb, Opened &opened, VSCore *core, const VSAPI *vsapi) {
    VSVideoInfo output = *vsapi->getVideoInfo(rgb.get());
    output.width = opened.upscaler.width;
    output.height = opened.upscaler.height;
    auto *instance = new Instance(std::move(rgb), output, opened.release(), vsapi);
    const VSFilterDependency dependency{instance->clip.get(), rpGeneral};
    VSNode *made = vsapi->createVideoFilter2("Upscale", &output, getFrame, release, fmParallelRequests, &dependency, 1,
                                             instance, core);
    if (!made)
        throw Error("VapourSynth refused to make the filter");  // it has called release
    return own(made, vsapi);
}

Node create(const VSMap *in, VSCore *core, const VSAPI *vsapi) {
    Node clip = own(vsapi->mapGetNode(in, "clip", 0, nullptr), vsapi);
    const VSVideoInfo info = *vsapi->getVideoInfo(clip.get());
    if (!vsh::isConstantVideoFormat(&info))
        throw Error("only clips with constant format and dimensions are supported; convert it to one format and size "
                    "first");
    const Frame first = firstFrame(clip.get(), vsapi);
    const VSMap *properties = vsapi->getFramePropertiesRO(first.get());
    refuseFields(properties, 0, vsapi);
    const Colour colour = readColour(info, properties, readMatrix(in, vsapi), vsapi);
    Opened opened{bridge::open(readSettings(in, vsapi), info.width, info.height, info.numFrames)};
    checkSize(info.format, opened.upscaler, vsapi);
    tellAssumption(colour, core, vsapi);
    tellNote(opened.upscaler, core, vsapi);
    const VSVideoFormat &format = info.format;
    if (format.colorFamily == cfRGB && format.sampleType == stFloat && format.bitsPerSample == 32)
        return makeFilter(std::move(clip), opened, core, vsapi);
    Node upscaled = makeFilter(toRgb(clip.get(), colour, core, vsapi), opened, core, vsapi);
    return fromRgb(std::move(upscaled), colour, core, vsapi);
}

}  // namespace

void VS_CC createUpscale(const VSMap *in, VSMap *out, void *, VSCore *core, const VSAPI *vsapi) {
    try {
        vsapi->mapConsumeNode(out, "clip", create(in, core, vsapi).release(), maAppend);
    } catch (const std::exception &error) {
        vsapi->mapSetError(out, (std::string("Upscale: ") + error.what()).c_str());
    }
}

}  // namespace duovsr
