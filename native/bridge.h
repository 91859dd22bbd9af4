// The calls into duovsr_vs.filter, the Python half of the plugin. Each takes the GIL itself and throws Error.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "python.h"

namespace duovsr::bridge {

using Setting = std::variant<bool, int64_t, double, std::string>;
using Settings = std::vector<std::pair<const char *, Setting>>;  // option name, value; options not given are left out

struct Plane {
    const void *data;
    ptrdiff_t stride;  // bytes
};
using Planes = std::array<Plane, 3>;  // R, G, B of one RGBS frame

// An open upscaler: how large its frames are, and the grid of chunks in which it makes them.
struct Upscaler {
    python::Object *handle = nullptr;
    int width = 0;
    int height = 0;
    int chunk = 0;   // output frames made by one call
    int before = 0;  // further input frames that a chunk needs before its first
    int after = 0;   // and after its last
    std::string note;  // what a limit of memory has changed; empty where nothing
};

// Loads the model for a clip of `frames` frames of width x height.
Upscaler open(const Settings &settings, int width, int height, int frames);

// Fills `targets`, the output frames from `start` on, from `sources`, the input frames from `first` on. `cuts` has one
// entry per source, true where a shot begins; empty leaves the test to the upscaler.
void run(const Upscaler &upscaler, int first, const std::vector<Planes> &sources, int start,
         const std::vector<Planes> &targets, const std::vector<bool> &cuts);

// Forgets the upscaler; does nothing when Python has shut down already.
void close(Upscaler &upscaler) noexcept;

// Names and files of the models that come with the package, the default's name first under "default".
std::vector<std::pair<std::string, std::string>> models();

}  // namespace duovsr::bridge
