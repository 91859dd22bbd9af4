// Two filters around the conversion to RGB: one sets aside the frame properties that resize changes, one puts them
// back.
#pragma once

#include "formats.h"

namespace duovsr {

// Also writes the matrix where frames have none, so that resize can convert them, and refuses interlaced frames.
Node setTagsAside(VSNode *clip, const Colour &colour, VSCore *core, const VSAPI *vsapi);

Node putTagsBack(Node clip, const Colour &colour, VSCore *core, const VSAPI *vsapi);

}  // namespace duovsr
