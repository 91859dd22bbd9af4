#include "formats.h"

#include <algorithm>
#include <array>

#include "error.h"
#include "tags.h"

namespace duovsr {

namespace {

constexpr int UNSPECIFIED = 2;
constexpr int BT709 = 1;
constexpr int ST170M = 6;
constexpr int HD_LINES = 720;  // an untagged clip with this many lines or more is taken for BT.709

// Those that need nothing but the matrix. The others (constant luminance, ICtCp) are tied to a transfer function.
constexpr std::array<int, 7> MATRICES = {1, 4, 5, 6, 7, 8, 9};

bool convertible(int matrix) { return std::find(MATRICES.begin(), MATRICES.end(), matrix) != MATRICES.end(); }

int chooseMatrix(const VSVideoInfo &info, const VSMap *first, std::optional<int> argument, Colour &colour,
                 const VSAPI *vsapi) {
    if (argument) {
        colour.forced = true;
        return *argument;
    }
    const int own = vsh::int64ToIntS(integer(first, "_Matrix", UNSPECIFIED, vsapi));
    const bool gray = info.format.colorFamily == cfGray;
    if (own != UNSPECIFIED && (!gray || convertible(own)))  // gray taken out of RGB is tagged 0; any weights do
        return own;
    colour.assumed = !gray;
    return info.height >= HD_LINES ? BT709 : ST170M;
}

void checkFormat(const VSVideoInfo &info, const VSAPI *vsapi) {
    const VSVideoFormat &format = info.format;
    if (format.sampleType == stInteger && format.bitsPerSample > 16)
        throw Error("the clip is " + formatName(format, vsapi) +
                    ", at most 16 bits are supported; convert it first, for example with core.resize.Bicubic(clip, "
                    "format=vs.GRAYS)");
}

// Calls a function of another plugin that makes one clip.
Node invoke(const char *plugin, const char *function, const VSMap *arguments, VSCore *core, const VSAPI *vsapi) {
    VSPlugin *found = vsapi->getPluginByID(plugin, core);
    if (!found)
        throw Error(std::string("VapourSynth's own plugin ") + plugin + " is missing; reinstall vapoursynth");
    const Map result = own(vsapi->invoke(found, function, arguments), vsapi);
    if (const char *text = vsapi->mapGetError(result.get()))
        throw Error(text);
    return own(vsapi->mapGetNode(result.get(), "clip", 0, nullptr), vsapi);
}

int64_t formatId(int family, int type, int bits, VSCore *core, const VSAPI *vsapi) {
    return vsapi->queryVideoFormatID(family, type, bits, 0, 0, core);
}

// Three times the same plane, tagged as the RGB that it is now.
Node repeatGray(const Node &gray, VSCore *core, const VSAPI *vsapi) {
    const Map arguments = own(vsapi->createMap(), vsapi);
    for (int i = 0; i < 3; i++) {
        vsapi->mapSetNode(arguments.get(), "clips", gray.get(), maAppend);
        vsapi->mapSetInt(arguments.get(), "planes", 0, maAppend);
    }
    vsapi->mapSetInt(arguments.get(), "colorfamily", cfRGB, maReplace);
    const Node rgb = invoke(VSH_STD_PLUGIN_ID, "ShufflePlanes", arguments.get(), core, vsapi);
    const Map tags = own(vsapi->createMap(), vsapi);
    vsapi->mapSetNode(tags.get(), "clip", rgb.get(), maReplace);
    vsapi->mapSetInt(tags.get(), "_Matrix", 0, maReplace);
    vsapi->mapSetInt(tags.get(), "_Range", 1, maReplace);
    return invoke(VSH_STD_PLUGIN_ID, "SetFrameProps", tags.get(), core, vsapi);
}

}  // namespace

Colour readColour(const VSVideoInfo &info, const VSMap *first, std::optional<int> matrix, const VSAPI *vsapi) {
    checkFormat(info, vsapi);
    Colour colour;
    colour.format = info.format;
    colour.range = integer(first, "_Range", -1, vsapi);
    colour.location = integer(first, "_ChromaLocation", -1, vsapi);
    if (info.format.colorFamily == cfRGB) {
        if (matrix)
            throw Error("matrix=" + std::to_string(*matrix) + " was given for an RGB clip; leave it out");
        return colour;
    }
    colour.matrix = chooseMatrix(info, first, matrix, colour, vsapi);
    if (!convertible(colour.matrix))
        throw Error((matrix ? "matrix=" : "the clip has _Matrix=") + std::to_string(colour.matrix) +
                    ", which the filter cannot convert by itself (it can 1, 4, 5, 6, 7, 8 and 9); give it RGB, for "
                    "example with core.resize.Bicubic(clip, format=vs.RGBS)");
    return colour;
}

void refuseFields(const VSMap *properties, int n, const VSAPI *vsapi) {
    const int64_t fields = integer(properties, "_FieldBased", 0, vsapi);
    if (fields == 1 || fields == 2)
        throw Error("frame " + std::to_string(n) + " is interlaced (_FieldBased=" + std::to_string(fields) +
                    "), whole frames are needed; deinterlace first, or use core.std.SetFieldBased(clip, 0) if the tag "
                    "is wrong");
}

Node toRgb(VSNode *clip, const Colour &colour, VSCore *core, const VSAPI *vsapi) {
    const bool gray = colour.format.colorFamily == cfGray;
    const Node tagged = setTagsAside(clip, colour, core, vsapi);
    const Map arguments = own(vsapi->createMap(), vsapi);
    vsapi->mapSetNode(arguments.get(), "clip", tagged.get(), maReplace);
    vsapi->mapSetInt(arguments.get(), "format", formatId(gray ? cfGray : cfRGB, stFloat, 32, core, vsapi), maReplace);
    Node converted = invoke(VSH_RESIZE_PLUGIN_ID, "Bicubic", arguments.get(), core, vsapi);
    return gray ? repeatGray(converted, core, vsapi) : std::move(converted);
}

Node fromRgb(Node rgb, const Colour &colour, VSCore *core, const VSAPI *vsapi) {
    const VSVideoFormat &format = colour.format;
    const Map arguments = own(vsapi->createMap(), vsapi);
    const auto set = [&](const char *name, int64_t value) {
        vsapi->mapSetInt(arguments.get(), name, value, maReplace);
    };
    vsapi->mapSetNode(arguments.get(), "clip", rgb.get(), maReplace);
    set("format", vsapi->queryVideoFormatID(format.colorFamily, format.sampleType, format.bitsPerSample,
                                            format.subSamplingW, format.subSamplingH, core));
    if (format.colorFamily != cfRGB)
        set("matrix", colour.matrix);
    if (colour.range >= 0)
        set("range", colour.range);
    if (colour.location >= 0 && format.colorFamily == cfYUV)
        set("chromaloc", colour.location);
    return putTagsBack(invoke(VSH_RESIZE_PLUGIN_ID, "Bicubic", arguments.get(), core, vsapi), colour, core, vsapi);
}

}  // namespace duovsr
