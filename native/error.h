// The one exception of the plugin: its text is a sentence for the person who wrote the script.
#pragma once

#include <stdexcept>
#include <string>

namespace duovsr {

class Error : public std::runtime_error {
public:
    explicit Error(const std::string &sentence) : std::runtime_error(sentence) {}
};

}  // namespace duovsr
