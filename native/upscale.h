// core.duovsr.Upscale: the filter instance that makes frames in chunks.
#pragma once

#include "vs.h"

namespace duovsr {

extern const char *const UPSCALE_ARGUMENTS;

void VS_CC createUpscale(const VSMap *in, VSMap *out, void *, VSCore *core, const VSAPI *vsapi);

}  // namespace duovsr
