// core.duovsr: what VapourSynth finds when it loads the library.
#include "bridge.h"
#include "error.h"
#include "upscale.h"

#ifndef DUOVSR_VERSION
#error "DUOVSR_VERSION is defined by hatch_build.py, e.g. 0.1.0"
#endif
#define DUOVSR_TEXT_OF(token) #token
#define DUOVSR_TEXT(token) DUOVSR_TEXT_OF(token)

namespace {

// A dict from the name of each shipped model to its file, and the default's name under "default".
void VS_CC models(const VSMap *, VSMap *out, void *, VSCore *, const VSAPI *vsapi) {
    try {
        for (const auto &[key, value] : duovsr::bridge::models())
            vsapi->mapSetData(out, key.c_str(), value.c_str(), static_cast<int>(value.size()), dtUtf8, maReplace);
    } catch (const std::exception &error) {
        vsapi->mapSetError(out, (std::string("Models: ") + error.what()).c_str());
    }
}

void VS_CC version(const VSMap *, VSMap *out, void *, VSCore *, const VSAPI *vsapi) {
    vsapi->mapSetData(out, "version", DUOVSR_TEXT(DUOVSR_VERSION), -1, dtUtf8, maReplace);
}

}  // namespace

VS_EXTERNAL_API(void) VapourSynthPluginInit2(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->configPlugin("org.duovsr.upscale", "duovsr", "One-step diffusion video upscaler", VS_MAKE_VERSION(1, 0),
                         VAPOURSYNTH_API_VERSION, 0, plugin);
    vspapi->registerFunction("Upscale", duovsr::UPSCALE_ARGUMENTS, "clip:vnode;", duovsr::createUpscale, nullptr,
                             plugin);
    vspapi->registerFunction("Models", "", "any", models, nullptr, plugin);
    vspapi->registerFunction("Version", "", "version:data;", version, nullptr, plugin);
}
