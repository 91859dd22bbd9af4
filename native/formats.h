// From any constant format to RGBS and back, with the frame properties as they were.
#pragma once

#include <optional>

#include "vs.h"

namespace duovsr {

// How a clip's samples are to be read, taken from its first frame and from the argument `matrix`.
struct Colour {
    VSVideoFormat format;
    int matrix = 0;         // of YUV, and the weights of gray's luma; 0 for RGB
    bool forced = false;    // `matrix` was given: it wins over the frames' own tag
    bool assumed = false;   // neither tag nor argument: chosen by the number of lines
    int64_t range = -1;     // _Range, -1 where untagged
    int64_t location = -1;  // _ChromaLocation, -1 where untagged
};

// Refuses what cannot be converted; `first` holds the properties of frame 0.
Colour readColour(const VSVideoInfo &info, const VSMap *first, std::optional<int> matrix, const VSAPI *vsapi);

// Throws unless the frame with these properties is progressive.
void refuseFields(const VSMap *properties, int n, const VSAPI *vsapi);

// The clip as RGBS. Gray becomes three equal planes. Tags that the conversion changes are set aside in each frame.
Node toRgb(VSNode *clip, const Colour &colour, VSCore *core, const VSAPI *vsapi);

// A clip made from toRgb's, back in the format of `colour`, with the tags that had been set aside.
Node fromRgb(Node rgb, const Colour &colour, VSCore *core, const VSAPI *vsapi);

}  // namespace duovsr
