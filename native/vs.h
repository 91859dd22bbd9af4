// Owners for what VapourSynth counts by hand, and its headers, included in one place.
#pragma once

#include <VSHelper4.h>
#include <VapourSynth4.h>

#include <memory>
#include <string>

namespace duovsr {

struct NodeDeleter {
    const VSAPI *vsapi;
    void operator()(VSNode *node) const { vsapi->freeNode(node); }
};
using Node = std::unique_ptr<VSNode, NodeDeleter>;

struct MapDeleter {
    const VSAPI *vsapi;
    void operator()(VSMap *map) const { vsapi->freeMap(map); }
};
using Map = std::unique_ptr<VSMap, MapDeleter>;

struct FrameDeleter {
    const VSAPI *vsapi;
    void operator()(const VSFrame *frame) const { vsapi->freeFrame(frame); }
};
using Frame = std::unique_ptr<const VSFrame, FrameDeleter>;

inline Node own(VSNode *node, const VSAPI *vsapi) { return Node(node, NodeDeleter{vsapi}); }
inline Map own(VSMap *map, const VSAPI *vsapi) { return Map(map, MapDeleter{vsapi}); }
inline Frame own(const VSFrame *frame, const VSAPI *vsapi) { return Frame(frame, FrameDeleter{vsapi}); }

// The first integer under `key`, or `absent`.
inline int64_t integer(const VSMap *map, const char *key, int64_t absent, const VSAPI *vsapi) {
    int error = 0;
    const int64_t value = vsapi->mapGetInt(map, key, 0, &error);
    return error ? absent : value;
}

inline std::string formatName(const VSVideoFormat &format, const VSAPI *vsapi) {
    char name[32] = {};
    return vsapi->getVideoFormatName(&format, name) ? name : "an unnamed format";
}

}  // namespace duovsr
