#include "tags.h"

#include "error.h"

namespace duovsr {

namespace {

struct Tag {
    const char *name;
    const char *aside;
};
constexpr Tag MATRIX{"_Matrix", "_DuoVsrMatrix"};
constexpr Tag RANGE{"_Range", "_DuoVsrRange"};
constexpr Tag LOCATION{"_ChromaLocation", "_DuoVsrChromaLocation"};
constexpr Tag TRANSFER{"_Transfer", "_DuoVsrTransfer"};
constexpr Tag PRIMARIES{"_Primaries", "_DuoVsrPrimaries"};
constexpr Tag TAGS[] = {MATRIX, RANGE, LOCATION, TRANSFER, PRIMARIES};

constexpr int64_t UNSPECIFIED = 2;

struct Instance {
    Node clip;
    Colour colour;
    void (*change)(const Colour &colour, VSMap *properties, const VSAPI *vsapi);
    bool refuseInterlaced;
};

void setAside(const Colour &colour, VSMap *properties, const VSAPI *vsapi) {
    for (const Tag &tag : TAGS) {
        const int64_t value = integer(properties, tag.name, -1, vsapi);
        if (value >= 0)
            vsapi->mapSetInt(properties, tag.aside, value, maReplace);
    }
    if (colour.format.colorFamily == cfRGB)
        return;
    const int64_t own = integer(properties, MATRIX.name, UNSPECIFIED, vsapi);
    // Gray is only stretched to float here, so that any valid matrix does; its own may be one that resize refuses.
    if (colour.forced || own == UNSPECIFIED || colour.format.colorFamily == cfGray)
        vsapi->mapSetInt(properties, MATRIX.name, colour.matrix, maReplace);
}

// The whole clip comes back in one matrix, range and location, those of its first frame.
void putBack(const Colour &colour, VSMap *properties, const VSAPI *vsapi) {
    for (const Tag &tag : TAGS) {
        const int64_t before = integer(properties, tag.aside, -1, vsapi);
        vsapi->mapDeleteKey(properties, tag.aside);
        vsapi->mapDeleteKey(properties, tag.name);
        if (before >= 0)
            vsapi->mapSetInt(properties, tag.name, before, maReplace);
    }
    const auto correct = [&](const Tag &tag, int64_t now) {
        if (now >= 0 && integer(properties, tag.name, now, vsapi) != now)
            vsapi->mapSetInt(properties, tag.name, now, maReplace);
    };
    correct(RANGE, colour.range);
    correct(LOCATION, colour.location);
    // Written even where the source had none: players guess by the number of lines, which has changed.
    if (colour.format.colorFamily == cfYUV)
        vsapi->mapSetInt(properties, MATRIX.name, colour.matrix, maReplace);
}

const VSFrame *VS_CC getFrame(int n, int reason, void *data, void **, VSFrameContext *context, VSCore *core,
                              const VSAPI *vsapi) {
    const auto &self = *static_cast<Instance *>(data);
    if (reason == arInitial) {
        vsapi->requestFrameFilter(n, self.clip.get(), context);
        return nullptr;
    }
    if (reason != arAllFramesReady)
        return nullptr;
    const Frame source = own(vsapi->getFrameFilter(n, self.clip.get(), context), vsapi);
    try {
        if (self.refuseInterlaced)
            refuseFields(vsapi->getFramePropertiesRO(source.get()), n, vsapi);
    } catch (const Error &error) {
        vsapi->setFilterError((std::string("Upscale: ") + error.what()).c_str(), context);
        return nullptr;
    }
    VSFrame *changed = vsapi->copyFrame(source.get(), core);  // shares the planes
    self.change(self.colour, vsapi->getFramePropertiesRW(changed), vsapi);
    return changed;
}

void VS_CC release(void *data, VSCore *, const VSAPI *) { delete static_cast<Instance *>(data); }

Node wrap(const char *name, Instance *instance, VSCore *core, const VSAPI *vsapi) {
    const VSFilterDependency dependency{instance->clip.get(), rpStrictSpatial};
    VSNode *made = vsapi->createVideoFilter2(name, vsapi->getVideoInfo(instance->clip.get()), getFrame, release,
                                             fmParallel, &dependency, 1, instance, core);
    if (!made)
        throw Error("VapourSynth refused to make an inner filter");  // it has called release
    return own(made, vsapi);
}

}  // namespace

Node setTagsAside(VSNode *clip, const Colour &colour, VSCore *core, const VSAPI *vsapi) {
    Node source = own(vsapi->addNodeRef(clip), vsapi);
    return wrap("UpscaleIn", new Instance{std::move(source), colour, setAside, true}, core, vsapi);
}

Node putTagsBack(Node clip, const Colour &colour, VSCore *core, const VSAPI *vsapi) {
    return wrap("UpscaleOut", new Instance{std::move(clip), colour, putBack, false}, core, vsapi);
}

}  // namespace duovsr
