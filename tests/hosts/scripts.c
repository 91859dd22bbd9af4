/* A host of VSScript, as players and encoders are: runs a script several times, each in a fresh environment. */
#include <VSScript4.h>
#include <dlfcn.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES 20

static const VSAPI *api;
static sem_t arrived;

static void VS_CC done(void *data, const VSFrame *frame, int n, VSNode *node, const char *error) {
    (void)data, (void)n, (void)node, (void)error;
    api->freeFrame(frame);
    sem_post(&arrived);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    typedef const VSSCRIPTAPI *(VS_CC * Get)(int);
    Get get = (Get)dlsym(dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL), "getVSScriptAPI");
    const VSSCRIPTAPI *scripts = get(VSSCRIPT_API_VERSION);
    api = scripts->getVSAPI(VAPOURSYNTH_API_VERSION);
    sem_init(&arrived, 0, 0);
    for (int i = 0; i < atoi(argv[3]); i++) {
        VSScript *script = scripts->createScript(NULL);
        if (scripts->evaluateFile(script, argv[2])) {
            printf("%s\n", scripts->getError(script));
            return 1;
        }
        VSNode *node = scripts->getOutputNode(script, 0);
        char text[512] = "";
        const VSFrame *frame = api->getFrame(1, node, text, sizeof text);
        printf("%d %s\n", frame ? api->getFrameWidth(frame, 0) : 0, text);
        api->freeFrame(frame);
        for (int n = FRAMES - 1; n >= 0; n--)
            api->getFrameAsync(n, node, done, NULL);
        for (int n = 0; n < FRAMES; n++)
            sem_wait(&arrived);
        api->freeNode(node);
        scripts->freeScript(script);
    }
    return 0;
}
