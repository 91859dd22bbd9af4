// The newest finished chunks of one filter instance. Safe to use from several threads.
#pragma once

#include <deque>
#include <mutex>
#include <vector>

#include "vs.h"

namespace duovsr {

class Chunks {
public:
    // Two are enough: the one that is being fetched, and the one before it for those who came late.
    static constexpr size_t KEEP = 2;

    Chunks(int length, const VSAPI *vsapi) : length(length), vsapi(vsapi) {}

    // A new reference to output frame n, or null when its chunk is not here.
    const VSFrame *find(int n) {
        const std::lock_guard<std::mutex> guard(lock);
        for (const Chunk &chunk : finished) {
            if (chunk.number == n / length)
                return vsapi->addFrameRef(chunk.frames[static_cast<size_t>(n % length)].get());
        }
        return nullptr;
    }

    void add(int number, std::vector<Frame> frames) {
        Chunk dropped{};  // freed after the lock is gone: freeing frames may be slow
        const std::lock_guard<std::mutex> guard(lock);
        finished.push_back({number, std::move(frames)});
        if (finished.size() > KEEP) {
            dropped = std::move(finished.front());
            finished.pop_front();
        }
    }

private:
    struct Chunk {
        int number;
        std::vector<Frame> frames;
    };

    const int length;
    const VSAPI *vsapi;
    std::mutex lock;
    std::deque<Chunk> finished;
};

}  // namespace duovsr
