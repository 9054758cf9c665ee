// limpet-se: the service engine's command line.
#include <boost/program_options.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>

#include "control/config/bootstrap_codec.h"
#include "control/config/codec.h"
#include "control/engine/engine.h"
#include "control/engine/replay.h"
#include "control/engine/sizing.h"

namespace limpet::engine {
namespace {

enum ExitStatus : int { kDone = 0, kBadConfiguration = 1, kUsage = 2, kDevice = 3 };

struct Options {
  std::filesystem::path config;
  bool check = false;
  bool replay = false;
  std::optional<std::filesystem::path> events;
};

constexpr const char* kUsageText =
    "usage: limpet-se --config FILE             run\n"
    "                 --config FILE --check     check FILE and the document it names\n"
    "                 --config FILE --replay [EVENTS]\n"
    "                                           run to the end of the captures, then stop\n"
    "       limpet-se --version | --help\n";

// An exit status, or nothing when `options` say what to do.
std::optional<int> parse_options(int argc, char** argv, Options* options) {
  namespace po = boost::program_options;
  po::options_description known("limpet-se");
  po::options_description shown;
  auto add = known.add_options();
  add("config", po::value<std::string>());
  add("check", "");
  add("replay", po::value<std::string>()->implicit_value(""));
  add("version", "");
  add("help,h", "");
  po::variables_map values;
  try {
    po::store(po::command_line_parser(argc, argv).options(known).positional({}).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    std::cerr << "limpet-se: " << error.what() << "\n" << kUsageText;
    return kUsage;
  }
  if (values.count("help") > 0) {
    std::cout << kUsageText;
    return kDone;
  }
  if (values.count("version") > 0) {
    std::cout << "limpet-se " << LIMPET_VERSION << "\n";
    return kDone;
  }
  options->check = values.count("check") > 0;
  options->replay = values.count("replay") > 0;
  if (values.count("config") == 0 || (options->check && options->replay)) {
    std::cerr << kUsageText;
    return kUsage;
  }
  options->config = values["config"].as<std::string>();
  if (options->replay && !values["replay"].as<std::string>().empty())
    options->events = values["replay"].as<std::string>();
  return std::nullopt;
}

void print(const std::string& file, const base::Errors& errors) {
  for (const base::Error& e : errors)
    std::cerr << file << ":" << e.path << ": " << e.message << "\n";
}

std::optional<std::string> read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) return std::nullopt;
  return text.str();
}

// Everything a document can be wrong in, without devices: parsed, and compiled for these ports.
base::Errors check_document(const config::Bootstrap& bootstrap, const std::string& text) {
  const Surroundings around =
      surroundings(bootstrap, std::vector<net::Mac>(bootstrap.ports.size()));
  const auto outcome = prepare(Configuration::empty(around), PutDocument{text}, around, {});
  if (const auto* refused = std::get_if<Refused>(&outcome)) return refused->errors;
  for (const config::Warning& w : std::get<Prepared>(outcome).warnings)
    std::cerr << bootstrap.document->string() << ":" << w.path << ": warning: " << w.message
              << "\n";
  return {};
}

int run(const Options& options) {
  const std::string file = options.config.string();
  auto parsed = config::read_bootstrap(options.config);
  if (!parsed) {
    print(file, parsed.errors());
    return kBadConfiguration;
  }
  const config::Bootstrap& bootstrap = parsed.value().bootstrap;
  for (const base::Error& w : parsed.value().warnings)
    std::cerr << file << ":" << w.path << ": warning: " << w.message << "\n";
  bool good = true;
  if (auto files = config::check_files(bootstrap); !files) {
    print(file, files.errors());
    good = false;
  }
  std::optional<std::string> document;
  if (good && bootstrap.document) {
    document = read(*bootstrap.document);
    const base::Errors errors =
        document ? check_document(bootstrap, *document) : base::Errors{{"", "cannot be read"}};
    print(bootstrap.document->string(), errors);
    good = errors.empty();
  }
  if (!good) return kBadConfiguration;
  if (options.check) {
    if (const auto memory = check_memory(bootstrap); !memory) {
      print(file, memory.errors());
      return kDevice;
    }
    std::cout << file << ": good\n";
    return kDone;
  }
  if (options.replay) {
    bool device_failure = false;
    const auto status = replay(bootstrap, std::move(document), options.events, &device_failure);
    if (status) return kDone;
    print(options.events && !device_failure ? options.events->string() : file, status.errors());
    return device_failure ? kDevice : kBadConfiguration;
  }
  std::signal(SIGPIPE, SIG_IGN);  // whoever read our standard error may have gone
  auto engine = Engine::start(bootstrap, std::move(document));
  if (!engine) {
    print(file, engine.errors());
    return kDevice;
  }
  engine.value()->run();
  return kDone;
}

}  // namespace
}  // namespace limpet::engine

int main(int argc, char** argv) {
  limpet::engine::Options options;
  if (const auto status = limpet::engine::parse_options(argc, argv, &options)) return *status;
  return limpet::engine::run(options);
}
