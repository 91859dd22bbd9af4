/* A host without Python: loads the core and the plugin, prints what Version, Models and Upscale say. */
#include <VapourSynth4.h>
#include <dlfcn.h>
#include <stdio.h>

static void call(const VSAPI *api, VSPlugin *plugin, const char *name, const VSMap *arguments) {
    VSMap *result = api->invoke(plugin, name, arguments);
    const char *error = api->mapGetError(result);
    printf("%s\n", error ? error : api->mapGetData(result, "version", 0, NULL));
    api->freeMap(result);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    VSGetVapourSynthAPI get = (VSGetVapourSynthAPI)dlsym(dlopen(argv[1], RTLD_NOW | RTLD_LOCAL), "getVapourSynthAPI");
    const VSAPI *api = get(VAPOURSYNTH_API_VERSION);
    VSCore *core = api->createCore(ccfDisableAutoLoading);
    VSPlugin *std = api->getPluginByID("com.vapoursynth.std", core);
    VSMap *path = api->createMap();
    api->mapSetData(path, "path", argv[2], -1, dtUtf8, maReplace);
    api->freeMap(api->invoke(std, "LoadPlugin", path));
    api->freeMap(path);
    VSPlugin *duovsr = api->getPluginByNamespace("duovsr", core);
    VSMap *none = api->createMap();
    VSMap *blank = api->invoke(std, "BlankClip", none);
    call(api, duovsr, "Version", none);
    call(api, duovsr, "Models", none);
    call(api, duovsr, "Upscale", blank);
    api->freeMap(blank);
    api->freeMap(none);
    api->freeCore(core);
    return 0;
}
