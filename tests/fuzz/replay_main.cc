// Runs a fuzz target once on each file of the folders given: so the corpora are tests in every
// build, also where there is no libFuzzer. Exit status 0: the target returned from all of them; 2:
// usage.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size);

int main(int argument_count, char** arguments) {
  std::size_t files = 0;
  for (int i = 1; i < argument_count; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(arguments[i])) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(file),
                             std::istreambuf_iterator<char>()};
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(text.data()), text.size());
      ++files;
    }
  }
  if (files == 0) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER...\n", arguments[0]);
    return 2;
  }
  std::printf("%zu files\n", files);
  return 0;
}
